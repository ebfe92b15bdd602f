"""The effect of an intervention over texts: the numbers by hand, and what is refused."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limelight import InputError, microscope
from limelight.microscope import Ablate, Temperature, WithoutSinks
from limelight.what_if import Effect, TextEffect, effect_of, measuring, next_token_loss
from tests.huggingface import tiny
from tests.microscope.models import Causal


def texts(count=4, length=9):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 64, (1, length), generator=generator) for _ in range(count)]


def scope_of(one, *given, **named):
    with torch.no_grad(), microscope.attach(one) as scope:
        one(*given, **named)
    return scope


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_language_model_has_a_loss_a_divergence_and_a_top_prediction(attention):
    one, given = tiny.model("llama", attention), texts()
    scope, change = scope_of(one, given[0]), Ablate([(0, 1), (1, 2)], "zero")
    effect = effect_of(scope, [{"input_ids": ids, "use_cache": False} for ids in given], change)
    assert effect.measures == ("loss_before", "loss_after", "loss_change", "divergence", "top_changed", "moved")
    plain = [one(ids).logits[0] for ids in given]
    with scope.intervene(change):
        changed = [one(ids).logits[0] for ids in given]
    for number, (ids, a, b) in enumerate(zip(given, plain, changed, strict=True)):
        text = effect.texts[number]
        assert text.tokens == 9
        for loss, logits in ((text.loss_before, a), (text.loss_after, b)):
            assert loss == pytest.approx(float(-logits.log_softmax(-1)[torch.arange(8), ids[0, 1:]].mean()), abs=1e-5)
        p, q = a.softmax(-1), b.softmax(-1)
        assert text.divergence == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-3)
        assert text.top_changed == pytest.approx(float((a.argmax(-1) != b.argmax(-1)).float().mean()))
        assert text.moved == pytest.approx(float(((a - b).norm(dim=-1) / a.norm(dim=-1)).mean()), rel=1e-4)
    change = effect["loss_change"]
    assert change.estimate == pytest.approx(np.mean([t.loss_after - t.loss_before for t in effect.texts]))
    assert change.low < change.estimate < change.high
    assert repr(effect).startswith("Effect(Ablate(zero, 2 heads), 4 texts): loss ")
    assert " → " in repr(effect)
    assert len(effect.table()["loss_change"]) == len(effect.table()["tokens"]) == 4
    assert [len(trace.y) for trace in effect.figure().data] == [2] * 5


@torch.no_grad()
def test_no_change_is_exactly_none():
    one = tiny.model("llama", "sdpa")
    effect = effect_of(scope_of(one, tiny.IDS), texts())
    assert effect.values("loss_change").tolist() == effect.values("divergence").tolist() == [0, 0, 0, 0]
    assert "change of the output 0 in every text" in repr(effect)
    assert repr(effect).startswith("Effect(no change, 4 texts)")


@torch.no_grad()
def test_padding_is_left_out():
    one, batch = tiny.model("llama", "sdpa"), tiny.tokens("left")
    one_text = {name: x[1:] for name, x in batch.items()}
    alone = {"input_ids": one_text["input_ids"][:, 3:], "attention_mask": one_text["attention_mask"][:, 3:]}
    scope = scope_of(one, **batch)
    found = effect_of(scope, [one_text, alone], WithoutSinks(), Temperature(2.0))
    assert [text.tokens for text in found.texts] == [6, 6]
    for name in found.measures:
        assert found.values(name)[0] == pytest.approx(found.values(name)[1], abs=1e-4)


@torch.no_grad()
def test_an_encoder_has_no_loss_and_an_encoder_decoder_that_of_its_answer():
    masked = tiny.model("bert")
    effect = effect_of(scope_of(masked, tiny.IDS), texts(), Ablate([(1, 0)]))
    assert effect.measures == ("divergence", "top_changed", "moved")
    assert len(effect.figure().data) == 2
    effect = effect_of(scope_of(masked.bert, tiny.IDS), texts(), Ablate([(1, 0)]))
    assert effect.measures == ("moved",)
    with pytest.raises(InputError, match="no measure 'loss_change'"):
        _ = effect["loss_change"]
    one = tiny.model("t5")
    pairs = [{"input_ids": ids, "decoder_input_ids": ids[:, :5]} for ids in texts()]
    effect = effect_of(scope_of(one, **pairs[0]), pairs, Ablate([(5, 0)]))
    assert [text.tokens for text in effect.texts] == [5] * 4
    right = F.cross_entropy(one(**pairs[0]).logits[0, :-1], pairs[0]["input_ids"][0, 1:5])
    assert effect.texts[0].loss_before == pytest.approx(float(right), abs=1e-5)


def test_a_model_of_plain_torch_with_a_loss_of_ones_own():
    one = Causal()
    given = [torch.randn(1, 5, 8) for _ in range(3)]
    effect = effect_of(scope_of(one, given[0]), given, Ablate([(0, 0)]), loss=lambda out, text: out.square().mean())
    assert effect.measures == ("loss_before", "loss_after", "loss_change", "moved")
    assert effect.texts[2].loss_before == pytest.approx(float(one(given[2]).detach().square().mean()))
    assert not any(parameter.grad is not None for parameter in one.parameters())


def test_a_token_that_cannot_occur_and_an_output_of_zero():
    a, b = torch.tensor([[0.0, 1.0, -math.inf]]), torch.tensor([[1.0, 0.0, -math.inf]])
    p = a[0, :2].softmax(-1)
    assert measuring.divergence(a, b).item() == pytest.approx(((p[1] - p[0]) * 1.0).item())
    assert measuring.divergence(a, torch.tensor([[0.0, -math.inf, 0.0]])) == math.inf
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert measuring.moved(x, x + torch.tensor([[0.0, 1.0], [0.0, 0.0]])).item() == pytest.approx(0.1)
    assert measuring.moved(x, x + torch.tensor([[0.0, 0.0], [0.0, 1.0]])) == math.inf


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Causal()

    def forward(self, x):
        self.inner(x)
        return {"x": 1}


def test_errors_are_one_sentence():
    one = tiny.model("llama")
    scope = scope_of(one, tiny.IDS)
    with pytest.raises(InputError, match="got 1 texts, which give no interval; give at least two"):
        effect_of(scope, texts(1), Ablate([(0, 0)]))
    with pytest.raises(InputError, match="a text of one token has no next token"):
        effect_of(scope, texts(2, 1), Temperature(2.0))
    with pytest.raises(InputError, match="layer 1 has the heads 0 to 3, got head 9"):
        effect_of(scope, texts(), Ablate([(1, 9)]))
    with pytest.raises(InputError, match="must return a tensor of one number, got \\(2,\\)"):
        effect_of(scope, texts(), Temperature(2.0), loss=lambda *_: torch.zeros(2))
    with pytest.raises(InputError, match="needs input_ids"):
        next_token_loss(None, {"inputs_embeds": torch.zeros(1, 3, 8)})
    two, x = Two(), torch.randn(1, 5, 8)
    with pytest.raises(InputError, match="compares tensors, and the model returns dict"):
        effect_of(scope_of(two, x), [x, x], Temperature(2.0))
    layer = nn.TransformerEncoderLayer(8, 2, batch_first=True)
    scope = scope_of(layer.eval(), x)
    layer.train()
    with pytest.raises(InputError, match=r"call model\.eval\(\) first"):
        effect_of(scope, [x, x], Temperature(2.0))


def test_an_effect_of_two_equal_texts_says_so():
    effect = Effect("", (TextEffect(3, moved=0.5), TextEffect(3, moved=0.5)))
    assert repr(effect) == "Effect(no change, 2 texts): change of the output 0.500 in every text"
    assert effect["moved"].low == -math.inf

"""What is of several layers or steps together: rollout, column mass over a generation, and exports."""

import pytest
import torch

from limelight import InputError, microscope
from limelight.figures import heads_by, token_map
from limelight.microscope import Rollout, for_bertviz
from tests.huggingface.tiny import tokens
from tests.microscope.models import Causal, inputs, model, weights_of_eager


def seen(made, given):
    with torch.no_grad(), microscope.attach(made) as scope:
        made(**given) if isinstance(given, dict) else made(given)
    return scope


def one_text(name):
    made = model(name)
    return made, {key: value[:1] for key, value in inputs(made).items()}


def test_a_rollout_is_the_product_of_the_mean_matrices():
    made, given = one_text("llama")
    R = seen(made, given).rollout(0.3)
    with torch.no_grad():
        weights = made(**given, output_attentions=True).attentions
    right = torch.eye(R.shape[0])
    for P in weights:
        right = (0.7 * P[0].mean(0) + 0.3 * torch.eye(len(right))) @ right
    torch.testing.assert_close(R.dense(), right)
    torch.testing.assert_close(R.T.dense(), right.T)


def test_a_rollout_is_of_one_text():
    made, given = one_text("bart")
    given |= {name: given[name].flip(1) for name in ("decoder_input_ids", "decoder_attention_mask")}
    scope = seen(made, given)
    with pytest.raises(InputError, match="of one text"):
        scope.rollout()
    assert Rollout([scope[0], scope[1]]).shape == scope[0].shape[1:]
    wrongs = ([], "at least one"), ([scope[0, 0]], "all heads"), ([scope[3]], "a query and a key")
    for wrong, message in wrongs:
        with pytest.raises(InputError, match=message):
            Rollout(wrong)
    with pytest.raises(InputError, match="from 0 to 1"):
        Rollout([scope[0]], 1.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", ["llama", "mistral"])  # Mistral's cache drops the first tokens
def test_column_mass_over_a_generation_is_that_of_the_whole_text(name, padded):
    made, batch = model(name), tokens(padded)
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.no_grad(), microscope.attach(made) as scope:
        whole = made.generate(**batch, **settings)
    read, mask = whole[:, :-1], torch.nn.functional.pad(batch["attention_mask"], (0, 4), value=1)
    with torch.no_grad():
        weights = made(input_ids=read, attention_mask=mask, output_attentions=True).attentions
    for text, real in enumerate(mask.bool()):
        found = scope.select(text=text).column_mass(1)
        torch.testing.assert_close(found, weights[1][text][:, real].sum(-2)[:, real], atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_column_mass_can_be_asked_for_while_a_model_generates():
    made, given = one_text("llama")
    sizes = []

    def ask(ids, scores):
        sizes.append(scope.column_mass(0).shape[-1])
        return scores

    with torch.no_grad(), microscope.attach(made) as scope:
        made.generate(**given, max_new_tokens=3, do_sample=False, eos_token_id=None, logits_processor=[ask])
    n = given["input_ids"].shape[1]
    assert sizes == [n, n + 1, n + 2]


def test_column_mass_of_cross_attention_and_of_other_texts():
    made, given = one_text("bart")
    with torch.no_grad(), microscope.attach(made) as scope:
        made(**given)
        made(**given)
    mass = scope.select(step=0)[3].column_mass()
    torch.testing.assert_close(scope.column_mass(3), 2 * mass)
    with pytest.raises(InputError, match="another text"):
        scope.column_mass(0)


def test_bertviz_gets_the_matrices_under_its_own_names():
    made, given = one_text("bart")
    with torch.no_grad():
        right = weights_of_eager(made(**given, output_attentions=True))
    scope = seen(made, given)
    found = for_bertviz(scope)
    assert [*found] == ["encoder_attention", "decoder_attention", "cross_attention"]
    encoder, decoder, cross = found.values()
    pairs = [P for both in zip(decoder, cross, strict=True) for P in both]
    for ours, theirs in zip([*encoder, *pairs], right, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert [*for_bertviz(seen(*one_text("llama")))] == ["attention"]


def test_bertviz_does_not_get_more_than_memory_holds(monkeypatch):
    monkeypatch.setattr(microscope.exports, "_MOST", 1e3)
    with pytest.raises(InputError, match="GB"):
        for_bertviz(seen(*one_text("llama")))


def test_figures_of_a_table_and_of_a_head():
    scope = seen(Causal(), torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)))
    table = scope.table()
    figure = heads_by(table, "entropy")
    assert figure.data[0].z.T.ravel() == pytest.approx(table["entropy"])
    assert token_map(scope[0, 1].dense().numpy(), list("abcde")).data[0].z.shape == (5, 5)
    with pytest.raises(InputError, match="'nothing'"):
        heads_by(table, "nothing")
    with pytest.raises(InputError, match="several rows"):
        heads_by({name: 2 * column for name, column in table.items()}, "entropy")

"""Models of plain torch: its own layers, also on their fast path, and direct calls of its attention function."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from limelight import InputError, UnknownNameError, microscope
from tests.microscope.models import Causal

EXACT = {"atol": 1e-5, "rtol": 0}
PADDED = torch.tensor([[False] * 6, [False, False, False, False, True, True]])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(make):
    torch.manual_seed(0)
    return make()


def causal(n, kind):
    blocked = torch.ones(n, n, dtype=torch.bool).triu(1)
    return blocked if kind == "boolean" else torch.zeros(n, n).masked_fill(blocked, -torch.inf)


@pytest.mark.parametrize("settings", [{}, {"batch_first": True}, {"add_bias_kv": True}, {"add_zero_attn": True},
                                      {"kdim": 5, "vdim": 3}, {"bias": False}])  # fmt: skip
@pytest.mark.parametrize("mask", [None, "boolean", "float", "heads"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_multihead_attention_gives_torchs_own_weights(settings, mask, padded):
    layer = seeded(lambda: nn.MultiheadAttention(8, 2, **settings)).eval()
    x = drawn(2, 6, 8)
    key, value = (drawn(2, 6, layer.kdim, seed=1), drawn(2, 6, layer.vdim, seed=2)) if "kdim" in settings else (x, x)
    tensors = [x, key, value]
    if not layer.batch_first:
        tensors = [y.transpose(0, 1) for y in tensors]
    given = {"key_padding_mask": PADDED if padded else None}
    if mask == "heads":
        given["attn_mask"] = drawn(4, 6, 6, seed=3)
    elif mask:
        given["attn_mask"] = causal(6, mask)
    if padded and mask in ("float", "heads"):
        given["key_padding_mask"] = torch.zeros(2, 6).masked_fill(PADDED, -torch.inf)
    with torch.no_grad():
        plain = layer(*tensors, **given, need_weights=False)[0]
        _, right = layer(*tensors, **given, average_attn_weights=False)
        with microscope.attach(layer) as scope:
            assert torch.equal(layer(*tensors, **given, need_weights=False)[0], plain)
    real = ~PADDED if padded else torch.ones_like(PADDED)
    for text in (0, 1):
        P = scope.select(text=text)[0]
        keys = torch.cat([real[text], torch.ones(right.shape[-1] - 6, dtype=torch.bool)])
        rows = torch.ones(6, dtype=torch.bool) if P.is_cross else real[text]
        torch.testing.assert_close(P.dense(), right[text][:, rows][:, :, keys], **EXACT)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_keeps_its_fast_path(norm_first, nested, grad, padded):
    def make():
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested and not norm_first)

    model, x = seeded(make).eval(), drawn(2, 6, 8)
    given = {"src_key_padding_mask": PADDED} if padded else {}
    with torch.set_grad_enabled(grad):
        plain = model(x, **given)
        with microscope.attach(model) as scope:
            assert torch.equal(model(x, **given), plain)
    assert scope.layers == ("layers.0.self_attn", "layers.1.self_attn")
    first, length = model.layers[0], 4 if padded else 6
    with torch.no_grad():
        y = first.norm1(x) if norm_first else x
        mask = PADDED if padded else None
        _, right = first.self_attn(y, y, y, key_padding_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(scope.select(text=1)[0].dense(), right[1][:, :length, :length], **EXACT)
    assert "forward" not in first.__dict__


@pytest.mark.parametrize("grad", [False, True])
def test_one_encoder_layer_is_one_layer(grad):
    model = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    with torch.set_grad_enabled(grad), microscope.attach(model) as scope:
        model(drawn(1, 6, 8))
    assert scope.layers == ("self_attn",)


def test_a_decoder_has_its_own_attention_and_that_over_the_encoder():
    model = seeded(lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True)).eval()
    source, target = drawn(1, 6, 8), drawn(1, 4, 8, seed=1)
    mask = model.generate_square_subsequent_mask(4)
    with torch.no_grad(), microscope.attach(model) as scope:
        model(source, target, tgt_mask=mask, tgt_is_causal=True)
    shapes = [(P.shape, P.is_cross, P.mask) for P in scope]
    assert shapes[0] == ((2, 6, 6), False, None)
    assert shapes[1][:2] == ((2, 4, 4), False)
    assert repr(shapes[1][2]) == "causal"
    assert shapes[2] == ((2, 4, 6), True, None)


def test_direct_calls_are_named_by_the_module_that_makes_them():
    model, x = seeded(Causal), drawn(2, 5, 8)
    plain = model(x)
    with microscope.attach(model) as scope:
        assert torch.equal(model(x), plain)
        torch.nn.functional.scaled_dot_product_attention(x, x, x)  # not the model's
    assert scope.layers == ("layers.0", "layers.1")
    q, k, _ = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in model.layers[0].qkv(x).chunk(3, -1))
    right = (q @ k.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(scope.select(text=1)[0].dense(), right[1].detach(), **EXACT)


class Direct(nn.Module):
    def __init__(self, **given):
        super().__init__()
        self.given = given

    def forward(self, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v, **self.given)


@pytest.mark.parametrize("shape", [(6, 4), (2, 6, 4), (2, 3, 6, 4), (1, 2, 3, 6, 4)])
@pytest.mark.parametrize("given", [{}, {"scale": 2.0}, {"is_causal": True}, {"attn_mask": drawn(6, 6)},
                                   {"attn_mask": drawn(6, 6) > 0}])  # fmt: skip
def test_every_shape_of_a_direct_call(shape, given):
    q, k = drawn(*shape), drawn(*shape, seed=1)
    model = Direct(**given)
    right = model(q, k, torch.eye(6).expand(*shape[:-2], 6, 6))
    with microscope.attach(model) as scope:
        model(q, k, torch.eye(6).expand(*shape[:-2], 6, 6))
    dense = torch.stack([P.dense() for P in scope])
    torch.testing.assert_close(dense.flatten(0, 1), right.reshape(-1, 6, 6), **EXACT)


def test_grouped_heads_and_cross_shapes_of_a_direct_call():
    q, k, v = drawn(1, 4, 6, 8), drawn(1, 2, 9, 8), torch.eye(9).expand(1, 2, 9, 9)
    cached = torch.ones(6, 9, dtype=torch.bool).tril(3)
    for mask, is_cross in ((None, True), (cached, False), (drawn(6, 9) > -1, True)):
        model = Direct(enable_gqa=True, attn_mask=mask)
        right = model(q, k, v)
        with microscope.attach(model) as scope:
            model(q, k, v)
        torch.testing.assert_close(scope[0].dense(), right[0], **EXACT)
        assert scope[0].is_cross == is_cross
    with microscope.attach(model := Direct()) as scope:
        model(drawn(1, 2, 1, 8), k, v)
    assert scope[0].positions.tolist() == [8]


def test_queries_that_all_texts_share():
    q, k = drawn(1, 2, 3, 4), drawn(2, 2, 6, 4, seed=1)
    v = torch.eye(6).expand(2, 2, 6, 6)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None, None, None]
    model = Direct(attn_mask=mask)
    right = model(q, k, v)
    with microscope.attach(model) as scope:
        model(q, k, v)
    assert scope.texts == 2
    torch.testing.assert_close(scope.select(text=1)[0].dense(), right[1][..., : scope.select(text=1)[0].shape[-1]])


def test_a_model_without_attention_is_refused_when_it_has_run():
    model = nn.Linear(2, 2)
    refused = pytest.raises(InputError, match="Linear ran without any attention that can be watched")
    with refused, microscope.attach(model):
        model(torch.zeros(1, 2))


class OwnAttention(nn.Module):
    def forward(self, x):
        return (x @ x.mT).softmax(-1) @ x


def test_a_model_that_computes_its_weights_itself_is_named():
    model = nn.Sequential(OwnAttention())
    refused = pytest.raises(InputError, match=r"cannot be watched: 0 \(OwnAttention\) computes its weights by itself")
    with refused, microscope.attach(model):
        model(drawn(1, 3, 2))


class Fails(nn.Module):
    """A model that raises an error between two layers, when it is told to."""

    def __init__(self):
        super().__init__()
        self.parts, self.fails = Causal(), False

    def forward(self, x):
        first, second = self.parts.layers
        x = first(x)
        if self.fails:
            raise RuntimeError("between two layers")
        return second(x)


def test_a_pass_that_was_not_finished_is_forgotten():
    model, x = seeded(Fails), drawn(1, 5, 8)
    with microscope.attach(model) as scope:
        model(x)
        model.fails = True
        with pytest.raises(RuntimeError, match="between two layers"):
            model(x)
        model.fails = False
        model(2 * x)
    assert scope.steps == 2
    assert scope.select(step=1)[1].shape == (2, 5, 5)


@dataclasses.dataclass
class Out:
    first: torch.Tensor


class Unsteady(nn.Module):
    """Returns something else each time, in a dataclass."""

    def __init__(self):
        super().__init__()
        self.causal, self.count = Causal(), 0

    def forward(self, x):
        self.count += 1
        return Out(self.causal(x) + 0.5 * self.count)


def test_outputs_in_a_dataclass_are_compared():
    model = Unsteady()
    refused = pytest.raises(InputError, match=r"watching Unsteady changes its output by 0\.5")
    with refused, microscope.attach(model):
        model(drawn(1, 5, 8))


class Silent(Causal):
    def forward(self, x):
        super().forward(x)


def test_a_model_that_returns_no_tensor_is_not_said_to_be_equal():
    model = Silent()
    with microscope.attach(model) as scope:
        assert model(drawn(1, 5, 8)) is None
    assert scope.difference is None
    assert len(scope) == 2


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_inference_mode_and_autocast(mode):
    model = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    with mode(), torch.autocast("cpu", torch.bfloat16), microscope.attach(model) as scope:
        model(drawn(2, 6, 8))
    P = scope.select(text=1)[0]
    torch.testing.assert_close(P.dense().sum(-1), torch.ones(2, 6))
    assert all(x > 0 for x in scope.table()["entropy"])


def test_a_part_that_was_not_watched_is_reported():
    model = nn.Sequential(Causal(), OwnAttention())
    with microscope.attach(model) as scope:
        model(drawn(1, 3, 8))
    assert scope.not_watched == ("1",)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = nn.MultiheadAttention(8, 2)

    def forward(self, x):
        own = self.own
        return nn.functional.multi_head_attention_forward(
            x, x, x, 8, 2, own.in_proj_weight, own.in_proj_bias, None, None, False, 0.0, own.out_proj.weight,
            own.out_proj.bias,
        )[0]  # fmt: skip


def test_torchs_function_of_a_whole_layer_is_refused_with_its_name():
    model = Functional()
    refused = pytest.raises(InputError, match="Functional calls torch's multi_head_attention_forward itself")
    with refused, microscope.attach(model):
        model(drawn(3, 1, 8))


def test_errors_are_one_sentence():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = drawn(2, 3, 8)
    with pytest.raises(InputError, match=r"expects a torch\.nn\.Module, got str"), microscope.attach("model"):
        pass
    with microscope.attach(layer) as scope:
        assert repr(scope) == "Scope(MultiheadAttention, nothing ran yet)"
        assert len(scope) == 0
        with pytest.raises(InputError, match="nothing ran yet: call the model within"):
            _ = scope[0, 0]
        with pytest.raises(InputError, match="nothing ran yet"):
            scope.table()
        layer(x, x, x)
    with pytest.raises(InputError, match="2 texts; choose one"):
        _ = scope[0, 0]
    one = scope.select(text=0)
    with pytest.raises(InputError, match="layer 0 has the heads 0 to 1, got head 2"):
        _ = one[0, 2]
    with pytest.raises(InputError, match="attention layers 0 to 0, got layer 1"):
        _ = one[1, 0]
    with pytest.raises(UnknownNameError, match="unknown attention layer 'attn'"):
        _ = one["attn", 0]
    with pytest.raises(InputError, match=r"expects whole numbers, got 1\.5"):
        _ = one[1.5]
    with pytest.raises(InputError, match="one of 2 texts, counted from 0; got 2"):
        scope.select(text=2)
    with microscope.attach(layer) as scope:
        layer(x, x, x)
        layer(x[:1], x[:1], x[:1])
    with pytest.raises(InputError, match="ran in 2 steps; choose one"):
        _ = scope.select(text=0)[0, 0]
    assert scope.select(text=0, step=-1)["MultiheadAttention", -1].place.step == 1
    with pytest.raises(InputError, match="the batch had 1 texts, got text 1"):
        _ = scope.select(text=1, step=1)[0, 0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler
def test_a_compiled_model_is_refused():
    compiled = torch.compile(nn.MultiheadAttention(8, 2), backend="eager")
    with pytest.raises(InputError, match="compiled"), microscope.attach(compiled):
        pass


def test_a_text_without_any_visible_key():
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), drawn(2, 3, 8)
    blocked = torch.tensor([[False] * 3, [True] * 3])
    with torch.no_grad(), microscope.attach(layer) as scope:
        layer(x, x, x, key_padding_mask=blocked)
    assert scope.select(text=1)[0].shape == (2, 0, 0)
    assert scope.select(text=1)[0].dense().shape == (2, 0, 0)
    table = scope.table()
    assert [math.isnan(x) for x in table["entropy"]] == [False, False, True, True]

"""Heads that are changed while the model runs: the same as changing them by hand, under eager and sdpa."""

import numpy as np
import pytest
import torch
from torch import nn

from limelight import Dot, Entmax, Euclidean, InputError, RelativeBias, Softmax, UnknownNameError, microscope
from limelight.microscope import (
    Ablate,
    AttentionChange,
    EqualKeyNorms,
    Renormalize,
    Replace,
    Temperature,
    WithoutSinks,
)
from tests.huggingface import tiny
from tests.microscope.models import Causal, inputs, model, weights_of_eager

EXACT = {"atol": 1e-5, "rtol": 1e-5}
OUTPUT = {  # the projection that the heads' outputs enter, in layer 1 of self-attention
    "bert": "bert.encoder.layer.1.attention.output.dense",
    "gpt2": "transformer.h.1.attn.c_proj",
    "llama": "model.layers.1.self_attn.o_proj",
    "mistral": "model.layers.1.self_attn.o_proj",
    "gemma2": "model.layers.1.self_attn.o_proj",
    "gpt_oss": "model.layers.1.self_attn.o_proj",
    "t5": "encoder.block.1.layer.0.SelfAttention.o",
    "bart": "model.encoder.layers.1.self_attn.out_proj",
}
CROSS = {"t5": "decoder.block.1.layer.1.EncDecAttention.o", "bart": "model.decoder.layers.1.encoder_attn.out_proj"}
HEAD = 2


def made(name, attention):
    one = model(name)
    if attention == "sdpa" and not one._supports_sdpa:
        pytest.skip("transformers has no sdpa for it")
    one.set_attn_implementation(attention)
    return one


def watched(one, batch):
    with microscope.attach(one) as scope:
        one(**batch, use_cache=False)
    return scope


def by_hand(one, name, change):
    """A hook that changes the slice of a head before the layer's output projection."""

    def hook(module, args):
        heads = args[0].unflatten(-1, (4, -1)).clone()
        heads[..., HEAD, :] = change(heads[..., HEAD, :])
        return (heads.flatten(-2), *args[1:])

    return one.get_submodule(name).register_forward_pre_hook(hook)


def logits(one, batch):
    return one(**batch, use_cache=False).logits[batch["attention_mask"].bool()]


def mean_over(real):
    def change(out):
        means = [own[mask].mean(0) for own, mask in zip(out, real, strict=True)]
        return torch.stack(means)[:, None].expand_as(out)

    return change


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["full", "left", "right"])
@pytest.mark.parametrize("to", ["mean", "zero"])
@pytest.mark.parametrize(("name", "projection"), [*OUTPUT.items(), *CROSS.items()])
@torch.no_grad()
def test_ablation_is_changing_the_heads_slice_before_the_output_projection(name, projection, to, padded, attention):
    one = made(name, attention)
    batch = inputs(one, padded)
    scope = watched(one, batch)
    layer = next(i for i, own in enumerate(scope.layers) if projection.startswith(own.removesuffix(".self")))
    plain, real = logits(one, batch), batch["attention_mask"].bool()
    with scope.intervene(Ablate([(layer, HEAD)], to)):
        ours = logits(one, batch)
    hook = by_hand(one, projection, torch.zeros_like if to == "zero" else mean_over(real))
    right = logits(one, batch)
    hook.remove()
    assert (right - plain).abs().max() > 1e-4
    torch.testing.assert_close(ours, right, **EXACT)
    assert torch.equal(logits(one, batch), plain)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt_oss", "gemma2", "t5", "bart"])
@torch.no_grad()
def test_nothing_changes_where_nothing_is_changed(name, padded, attention):
    one = made(name, attention)
    batch = inputs(one, padded)
    scope, plain = watched(one, batch), logits(one, batch)
    with scope.intervene():
        assert torch.equal(logits(one, batch), plain)
    for same in (Temperature(1), Renormalize(Softmax(alpha=0.0)), Replace(Dot())):  # through the operator
        with scope.intervene(same):
            torch.testing.assert_close(logits(one, batch), plain, **EXACT)


def weights(one, batch):
    return weights_of_eager(one(**batch, use_cache=False, output_attentions=True))


def first_layer(one, batch, *changes):
    """(eager's own weights of layer 0, those with the changes, the outputs of its heads on both, the values)."""
    scope = watched(one, batch)
    found, projection = [], one.get_submodule("model.layers.0.self_attn.o_proj")
    hook = projection.register_forward_pre_hook(lambda _, args: found.append(args[0].unflatten(-1, (4, -1))))
    own = weights(one, batch)[0]
    with scope.intervene(*changes):
        changed = weights(one, batch)[0]
    hook.remove()
    return own, changed, found[0].transpose(1, 2), found[1].transpose(1, 2), scope


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt_oss"])
@torch.no_grad()
def test_without_sinks_it_is_the_softmax_over_the_other_keys(name):
    one, batch = model(name), tiny.tokens("left")
    own, changed, _, out, _ = first_layer(one, batch, WithoutSinks([(0, HEAD)]))
    untouched = [0, 1, 3]
    assert torch.equal(own[:, untouched], changed[:, untouched])
    for text, first in ((0, 0), (1, 3)):
        right = own[text, HEAD, first:, first:].clone()
        right[1:, 0] = 0  # the first token itself sees no other
        right = right / right.sum(-1, keepdim=True)
        torch.testing.assert_close(changed[text, HEAD, first:, first:], right, **EXACT)
        values = value_heads(one, batch)[text, HEAD]
        torch.testing.assert_close(out[text, HEAD, first:], right @ values[first:], **EXACT)


def value_heads(one, batch):
    """The values (B, H, m, e) of layer 0, each of them for the two query heads that share it."""
    found = []
    hook = one.model.layers[0].self_attn.v_proj.register_forward_hook(lambda *call: found.append(call[2]))
    one(**batch, use_cache=False)
    hook.remove()
    return found[0].unflatten(-1, (2, -1)).transpose(1, 2).repeat_interleave(2, 1)


@torch.no_grad()
def test_an_encoder_without_sinks():
    one, batch = model("bert"), tiny.tokens("right")
    scope = watched(one, batch)
    own = weights(one, batch)[0]
    with scope.intervene(WithoutSinks([(0, HEAD)])):
        changed = weights(one, batch)[0]
    for text, length in ((0, 9), (1, 6)):
        right = own[text, HEAD, :length, :length].clone()
        right[:, 0] = 0
        torch.testing.assert_close(changed[text, HEAD, :length, :length], right / right.sum(-1, keepdim=True), **EXACT)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss"])
@torch.no_grad()
def test_a_temperature_is_a_power_of_the_weights(name):
    """Also of a learned sink's share, which the weights of gpt-oss lack."""
    one, batch = model(name), tiny.tokens()
    own, changed, *_ = first_layer(one, batch, Temperature(2.0, [(0, HEAD)]))
    taken = (1 - own.sum(-1, keepdim=True)).clamp(min=0)
    right = own.sqrt() / (own.sqrt().sum(-1, keepdim=True) + (taken > 1e-5) * taken.sqrt())
    torch.testing.assert_close(changed[:, HEAD], right[:, HEAD], atol=1e-4, rtol=0)
    assert (own - changed)[:, HEAD].abs().max() > 0.01
    assert torch.equal(own[:, 0], changed[:, 0])


@torch.no_grad()
def test_keys_of_equal_length_and_another_similarity():
    one, batch = model("llama"), tiny.tokens()
    _, changed, *_, scope = first_layer(one, batch, EqualKeyNorms([(0, HEAD)]))
    P = scope.select(text=1)[0, HEAD]
    future = torch.ones(9, 9).triu(1).bool()
    k = P.k / P.k.norm(dim=-1, keepdim=True) * P.k.norm(dim=-1).mean()
    right = (P.scale * P.q @ k.mT).masked_fill(future, -torch.inf).softmax(-1)
    torch.testing.assert_close(changed[1, HEAD], right, **EXACT)
    _, changed, *_ = first_layer(one, batch, Replace(Euclidean(2.0), [(0, HEAD)]), Temperature(3.0))
    distances = torch.cdist(P.q, P.k).square()
    right = (-distances / 2 / 4 / 3).masked_fill(future, -torch.inf).softmax(-1)
    torch.testing.assert_close(changed[1, HEAD], right, **EXACT)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@torch.no_grad()
def test_another_normalization_leaves_out_padding(alpha):
    one, batch = model("bert"), tiny.tokens("right")
    scope = watched(one, batch)
    with scope.intervene(Renormalize(Softmax(alpha=alpha), [(0, HEAD)])):
        changed = weights(one, batch)[0]
    P = scope.select(text=1)[0, HEAD]
    e = (P.scale * P.q @ P.k.mT).exp()
    right = e / e.sum(0).pow(alpha)
    torch.testing.assert_close(changed[1, HEAD, :6, :6], right / right.sum(-1, keepdim=True), **EXACT)
    with scope.intervene(Renormalize(Entmax(1.5))):
        assert (weights(one, batch)[1] == 0).any()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("change", [Ablate([(0, 1)], "zero"), WithoutSinks(), Temperature(2.0)])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "bart", "t5"])
@torch.no_grad()
def test_a_cache_changes_nothing(name, change, padded, attention):
    one = made(name, attention)
    prompt = tiny.tokens(padded)
    with microscope.attach(one) as scope:
        plain = tiny.generated(one, prompt)
    if name == "mistral" and isinstance(change, WithoutSinks):
        return  # its window drops the first token
    with scope.intervene(change):
        ours = [tiny.generated(one, prompt, use_cache=cached, output_logits=True, return_dict_in_generate=True)
                for cached in (True, False)]  # fmt: skip
    for a, b in zip(ours[0].logits, ours[1].logits, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert torch.equal(tiny.generated(one, prompt), plain)


@pytest.mark.parametrize("change", [Ablate([(0, 1)], "zero"), WithoutSinks(), Temperature(2.0), EqualKeyNorms()])
@torch.no_grad()
def test_a_cache_of_fixed_size_changes_nothing(change):
    one, prompt = model("llama", "sdpa"), tiny.tokens("left")
    scope = watched(one, prompt)
    given = {"output_logits": True, "return_dict_in_generate": True}
    with scope.intervene(change):
        ours = tiny.generated(one, prompt, cache_implementation="static", disable_compile=True, **given)
        right = tiny.generated(one, prompt, **given)
    for a, b in zip(ours.logits, right.logits, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_a_cache_the_mean_is_over_the_tokens_so_far():
    one, ids = model("llama"), tiny.IDS
    found, scope = [], watched(one, {"input_ids": ids})
    projection = one.get_submodule("model.layers.0.self_attn.o_proj")

    def run(**given):
        found.clear()
        hook = projection.register_forward_pre_hook(lambda _, args: found.append(args[0].unflatten(-1, (4, -1))))
        one(**given)
        hook.remove()
        return found[0][:, :, HEAD]

    whole = run(input_ids=ids)
    with scope.intervene(Ablate([(0, HEAD)])):
        out = one(input_ids=ids[:, :6], use_cache=True)
        cache = {tiny.CACHE: out[tiny.CACHE]}
        last = run(input_ids=ids[:, 6:8], **cache)
    torch.testing.assert_close(last, whole[:, :8].mean(1, keepdim=True).expand_as(last), **EXACT)
    with scope.intervene(Ablate([(0, HEAD)])):
        with pytest.raises(InputError, match="a cache that was filled outside the block"):
            one(input_ids=ids[:, 8:], **cache)
        with pytest.raises(InputError, match="got a single token, whose own output is the mean over the text"):
            one(input_ids=ids[:, :1])
        one(input_ids=ids)


@torch.no_grad()
def test_a_shared_layer_is_changed_in_one_of_its_runs():
    one = tiny.model("albert")
    batch = tiny.tokens()
    scope = watched(one, batch)
    own = weights(one, batch)
    with scope.intervene(Temperature(5.0, [(1, 0)])):
        changed = weights(one, batch)
    assert torch.equal(own[0], changed[0])
    assert not torch.equal(own[1], changed[1])


@pytest.mark.parametrize("make", [Causal, lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)])
def test_gradients_pass(make):
    one, x = make().double().eval(), drawn(2, 5, 8).double().requires_grad_()
    with microscope.attach(one) as scope:
        one(x)
    changes = [EqualKeyNorms([(0, 0)]), WithoutSinks([(0, 0)]), Temperature(2.0, [(0, 0)]), Ablate([(0, 1)])]

    def out(x):
        with scope.intervene(*changes):
            return one(x)

    assert torch.autograd.gradcheck(out, x)


@torch.no_grad()
def test_half_precision_stays():
    one, batch = model("llama", "sdpa").bfloat16(), tiny.tokens()
    scope, plain = watched(one, batch), logits(one, batch)
    with scope.intervene(Ablate([(1, 0)]), WithoutSinks([(0, 0), (1, 1)]), EqualKeyNorms([(0, 2)])):
        assert logits(one, batch).dtype == torch.bfloat16
    with scope.intervene(Temperature(1.0)):
        torch.testing.assert_close(logits(one, batch), plain, atol=0.1, rtol=0.1)


# Models of plain torch.

PADDED = torch.tensor([[False] * 6, [False, False, False, False, True, True]])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def torchs_own(layer, x, change, mask=None):
    """The layer by hand, with the weights (B, H, n, m) and the outputs (B, H, n, e) of its heads changed."""
    q, k, v = (y.unflatten(-1, (2, -1)).transpose(1, 2) for y in layer.in_proj(x).chunk(3, -1))
    s = q @ k.mT / q.shape[-1] ** 0.5
    s = s if mask is None else s.masked_fill(mask[:, None, None, :], -torch.inf)
    p, out = change(s, v)
    return layer.out_proj(out.transpose(1, 2).flatten(2)), p


class Projected:
    """nn.MultiheadAttention's own projections under names."""

    def __init__(self, layer):
        self.layer, self.out_proj = layer, layer.out_proj

    def in_proj(self, x):
        return nn.functional.linear(x, self.layer.in_proj_weight, self.layer.in_proj_bias)


def warm(s, v):
    p = torch.cat([s[:, :1].softmax(-1), (s[:, 1:] / 3).softmax(-1)], 1)
    return p, p @ v


def zero(s, v):
    p = s.softmax(-1)
    out = (p @ v).clone()
    out[:, 1] = 0
    return p, out


CHANGES = [(Temperature(3.0, [(0, 1)]), warm), (Ablate([(0, 1)], "zero"), zero)]


@pytest.mark.parametrize(("change", "hand"), CHANGES)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_a_multihead_attention(change, hand, batch_first, average, grad):
    layer, x = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval(), drawn(2, 6, 8)
    y = x if batch_first else x.transpose(0, 1)
    given = {"key_padding_mask": PADDED, "average_attn_weights": average}
    with torch.set_grad_enabled(grad):
        with microscope.attach(layer) as scope:
            layer(y, y, y, **given)
        with scope.intervene(change):
            out, p = layer(y, y, y, **given)
            alone, none = layer(y, y, y, key_padding_mask=PADDED, need_weights=False)
    right, weights = torchs_own(Projected(layer), x, hand, PADDED)
    real = ~PADDED
    torch.testing.assert_close((out if batch_first else out.transpose(0, 1))[real], right[real], **EXACT)
    torch.testing.assert_close((alone if batch_first else alone.transpose(0, 1))[real], right[real], **EXACT)
    weights = weights.mean(1) if average else weights
    torch.testing.assert_close(p[0], weights[0], **EXACT)
    assert none is None
    assert out.requires_grad == grad


def test_a_text_without_a_batch_and_an_empty_key():
    layer, x = nn.MultiheadAttention(8, 2, add_zero_attn=True).eval(), drawn(6, 8)
    with microscope.attach(layer) as scope:
        plain, _ = layer(x, x, x)
    with scope.intervene(Temperature(1.0)):
        torch.testing.assert_close(layer(x, x, x)[0], plain, **EXACT)
    with scope.intervene(Ablate([(0, 0)])):
        assert layer(x, x, x)[0].shape == (6, 8)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_an_encoder_leaves_its_fast_path_where_a_head_is_changed(norm_first, nested, padded):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    one = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested and not norm_first).eval()
    x, given = drawn(2, 6, 8), {"src_key_padding_mask": PADDED} if padded else {}
    real = ~PADDED if padded else torch.ones(2, 6, dtype=torch.bool)
    with microscope.attach(one) as scope:
        plain = one(x, **given)
    with scope.intervene():
        assert torch.equal(one(x, **given), plain)
    with scope.intervene(Temperature(1.0, [(1, 0)])):
        torch.testing.assert_close(one(x, **given)[real], plain[real], **EXACT)
    with scope.intervene(Ablate([(0, 1)], "zero")):
        ours = one(x, **given)
    own = one.layers[0].self_attn
    blocked = own.out_proj.weight[:, 4:].clone()
    own.out_proj.weight[:, 4:] = 0  # the columns that read head 1
    right = one(x, **given)
    own.out_proj.weight[:, 4:] = blocked
    torch.testing.assert_close(ours[real], right[real], **EXACT)
    assert (right - plain)[real].abs().max() > 1e-3


@torch.no_grad()
def test_a_decoder_and_its_cross_attention():
    one = nn.Transformer(8, 2, 1, 1, 16, batch_first=True).eval()
    source, target = drawn(2, 6, 8), drawn(2, 4, 8, seed=1)
    with microscope.attach(one) as scope:
        plain = one(source, target)
    own = one.decoder.layers[0].multihead_attn
    with scope.intervene(Ablate([(2, 0)], "zero")):
        ours = one(source, target)
    own.out_proj.weight[:, :4] = 0
    torch.testing.assert_close(ours, one(source, target), **EXACT)
    assert (ours - plain).abs().max() > 1e-3
    with scope.intervene(WithoutSinks()):
        one(source, target)
    with pytest.raises(InputError, match="mixes queries"), scope.intervene(Renormalize(Softmax(alpha=1.0), [(2, 0)])):
        one(source, target)
    with pytest.raises(InputError, match="needs all queries"), scope.intervene(Replace(RelativeBias(3), [(2, 0)])):
        one(source, target)


def test_direct_calls_of_torchs_function():
    one, x = Causal(), drawn(2, 5, 8)
    with microscope.attach(one) as scope:
        plain = one(x)
    with scope.intervene(Ablate([(0, 1)], "zero")):
        ours = one(x)
    q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in one.layers[0].qkv(x).chunk(3, -1))
    out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out = torch.stack([out[:, 0], torch.zeros_like(out[:, 1])], 1)
    torch.testing.assert_close(ours, one.layers[1](x + out.transpose(1, 2).flatten(2)), **EXACT)
    with scope.intervene(WithoutSinks([("layers.0", 0)])):
        one(x)
    with pytest.raises(InputError, match="causal"), scope.intervene(Renormalize(Softmax(alpha=1.0))):
        one(x)
    assert torch.equal(one(x), plain)


class Reversed(AttentionChange):
    def change(self, head):
        return head.changed(scale=-head.scale)


@torch.no_grad()
def test_changes_combine_and_one_may_write_their_own():
    one, x = Causal(), drawn(1, 5, 8)
    with microscope.attach(one) as scope:
        one(x)
    with scope.intervene(Reversed([(0, 0)]), Temperature(2.0, [(0, 0)]), Ablate([(0, 1)], "zero")):
        ours = one(x)
    q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in one.layers[0].qkv(x).chunk(3, -1))
    s = (-q @ k.mT / 2 / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    out = s.softmax(-1) @ v
    out[:, 1] = 0
    torch.testing.assert_close(ours, one.layers[1](x + out.transpose(1, 2).flatten(2)), **EXACT)


def test_the_arguments_of_an_intervention_are_in_its_repr():
    assert repr(Ablate([(0, 1)], "zero")) == "Ablate(zero, 1 head)"
    assert repr(Ablate([(0, 1), (0, 1), (1, 1)])) == "Ablate(mean, 2 heads)"
    assert repr(EqualKeyNorms()) == "EqualKeyNorms()"
    assert repr(Replace(Dot(), [(0, 1)])) == "Replace(Dot(), 1 head)"


def test_heads_may_be_rows_of_an_array():
    one = Causal()
    with microscope.attach(one) as scope:
        one(drawn(1, 5, 8))
    pairs = np.array([[1, 0], [0, 1]])
    assert Ablate(pairs).heads == Ablate([[1, 0], [0, 1]]).heads == ((1, 0), (0, 1))
    assert scope[pairs[0, 0], pairs[0, 1]].place == scope[1, 0].place


def test_errors_of_the_changes_are_one_sentence():
    with pytest.raises(InputError, match="Ablate got no heads; give at least one"):
        Ablate([])
    with pytest.raises(InputError, match=r"expects pairs .* got None"):
        Ablate(None)
    with pytest.raises(InputError, match=r"expects pairs \(layer, head\), as \[\(5, 1\)\]; got 3 among them"):
        WithoutSinks([3])
    for wrong in ("01", ["01"]):
        with pytest.raises(InputError, match="expects pairs"):
            Ablate(wrong)
    with pytest.raises(InputError, match='expects "mean" or "zero", got \'median\''):
        Ablate([(0, 1)], "median")
    for wrong in (0, -1.0, float("nan"), float("inf"), True, "2"):
        with pytest.raises(InputError, match="Temperature expects a positive finite number"):
            Temperature(wrong)
    with pytest.raises(InputError, match=r"expects a Normalization object, got 0\.5"):
        Renormalize(0.5)
    with pytest.raises(InputError, match="write Dot"):
        Replace(Dot)


def test_errors_of_the_scope_are_one_sentence():
    one, x = Causal(), drawn(1, 5, 8)
    with microscope.attach(one) as scope:
        with pytest.raises(InputError, match="nothing ran yet"):
            scope.intervene(Temperature(2.0))
        one(x)
    with pytest.raises(InputError, match="layer 1 has the heads 0 to 1, got head 2"):
        scope.intervene(Ablate([(1, 2)]))
    with pytest.raises(InputError, match="layers 0 to 1, got layer 2"):
        scope.intervene(Ablate([(2, 0)]))
    with pytest.raises(UnknownNameError, match=r"did you mean 'layers\.\d'"):
        scope.intervene(Ablate([("layers.7", 0)]))
    with pytest.raises(InputError, match="this ablates all 4 heads of the model, which leaves no attention"):
        scope.intervene(Ablate([(layer, head) for layer in (0, 1) for head in (0, 1)]))
    with pytest.raises(InputError, match=r"head 0 of layers\.1 is changed by two Temperature"):
        scope.intervene(Temperature(2.0), Temperature(3.0, [(1, 0)]))
    with pytest.raises(InputError, match="each change expects an Intervention object, got 2"):
        scope.intervene(2)
    with pytest.raises(InputError, match=r"layers\.1 did not run within the block"), scope.intervene(Ablate([(1, 0)])):
        pass


def test_dropout_of_weights_is_refused_and_the_model_is_as_it_was():
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True), drawn(1, 5, 8)
    layer.eval()
    with microscope.attach(layer) as scope:
        layer(x, x, x)
    layer.train()
    with pytest.raises(InputError, match=r"call model\.eval\(\) first"), scope.intervene(Ablate([(0, 0)])):
        layer(x, x, x)
    assert "forward" not in layer.__dict__


@torch.no_grad()
def test_a_model_that_is_watched_or_changed_already_is_refused():
    one, batch = model("llama"), tiny.tokens()
    scope = watched(one, batch)
    with scope.intervene(Ablate([(0, 0)])):
        one(**batch)
        with pytest.raises(InputError, match="watched already"):
            microscope.attach(one).__enter__()


@pytest.mark.parametrize("name", ["bert", "llama", "bart"])
@torch.no_grad()
def test_the_effect_of_ablating_each_head_in_turn(name):
    one = model(name, "sdpa")
    batch = {key: x[:1] for key, x in inputs(one).items()} | {"use_cache": False}
    with microscope.attach(one) as scope:
        plain = one(**batch).logits
    table = scope.table([microscope.ablation_effect(scope, batch)])
    assert len(table["ablation"]) == 4 * len(scope)
    for row in (1, 6, len(table["ablation"]) - 1):
        with scope.intervene(Ablate([(table["layer"][row], table["head"][row])])):
            changed = one(**batch).logits
        right = ((changed - plain).norm(dim=-1) / plain.norm(dim=-1)).mean().item()
        assert table["ablation"][row] == pytest.approx(right, rel=1e-4)
        assert right > 0


def test_the_effect_of_ablation_is_of_one_text():
    one, x = Causal(), drawn(2, 5, 8)
    with microscope.attach(one) as scope:
        one(x)
    with pytest.raises(InputError, match="is of one text that is read once"):
        scope.table([microscope.ablation_effect(scope, x)])

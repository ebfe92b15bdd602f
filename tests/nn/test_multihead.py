"""`limelight.nn.MultiheadAttention` against torch's own, argument by argument."""

import copy
import inspect
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from limelight import (
    Attention,
    Boolean,
    Cosine,
    DeviceError,
    Dot,
    DtypeError,
    Euclidean,
    Hybrid,
    InputError,
    Metric,
    Sinkhorn,
    Softmax,
    causal,
    padding,
    window,
)
from limelight.nn import MultiheadAttention

E, H, N, L, S = 12, 3, 2, 5, 7
INF = float("inf")


def pair(**arguments):
    """torch's layer, and Limelight's with torch's parameters, in float64; biases that are not zero."""
    theirs = nn.MultiheadAttention(E, H, dtype=torch.float64, **arguments)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    mine = MultiheadAttention(E, H, dtype=torch.float64, **arguments)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    return mine, theirs


def tokens(batch_first=False, batch=N, n=L, m=S, kdim=E, vdim=E):
    shapes = [(batch, length, width) if batch else (length, width) for length, width in ((n, E), (m, kdim), (m, vdim))]
    made = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    return made if batch_first or not batch else [x.transpose(0, 1) for x in made]


def blocked(*shape):
    """The blocked pairs: never the first key, so that torch gives no NaN, and always the last."""
    out = torch.rand(shape) > 0.6
    out[..., 0], out[..., -1] = False, True
    return out


def floating(*shape):
    return torch.randn(shape, dtype=torch.float64).masked_fill(blocked(*shape), -INF)


def assert_same(mine, theirs, *inputs, **arguments):
    """Outputs, weights, and the gradients of inputs, masks and parameters."""
    results = []
    for layer in (mine, theirs):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        given = {
            name: x.clone().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
            for name, x in arguments.items()
        }
        out, weights = layer(*leaves, **given)
        learned = [*leaves, *layer.parameters(), *(x for x in given.values() if getattr(x, "requires_grad", False))]
        signal = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        loss = (out * signal).sum() if weights is None else (out * signal).sum() + weights.square().sum()
        results.append((out, weights, *torch.autograd.grad(loss, learned)))
    for one, other in zip(*results, strict=True):
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other)


MASKS = {
    "none": dict,
    "2-D bool": lambda: {"attn_mask": blocked(L, S)},
    "3-D bool": lambda: {"attn_mask": blocked(N * H, L, S)},
    "padding": lambda: {"key_padding_mask": blocked(N, S)},
    "padding and 2-D bool": lambda: {"key_padding_mask": blocked(N, S), "attn_mask": blocked(L, S)},
    "padding and 3-D bool": lambda: {"key_padding_mask": blocked(N, S), "attn_mask": blocked(N * H, L, S)},
    "2-D float": lambda: {"attn_mask": floating(L, S)},
    "3-D float": lambda: {"attn_mask": floating(N * H, L, S)},
    "float padding": lambda: {"key_padding_mask": floating(N, S)},
    "float padding and 3-D float": lambda: {
        "key_padding_mask": floating(N, S),
        "attn_mask": floating(N * H, L, S),
    },
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(
    "layer",
    [
        {},
        {"batch_first": True, "bias": False},
        {"kdim": 5, "vdim": 4, "add_zero_attn": True},
        {"add_bias_kv": True, "kdim": 5},
        {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    ],
    ids=str,
)
def test_it_is_torchs_layer_and_so_are_its_gradients(layer, masks, need_weights):
    mine, theirs = pair(**layer)
    widths = {name: layer[name] for name in ("kdim", "vdim") if name in layer}
    inputs = tokens(layer.get("batch_first", False), **widths)
    assert_same(mine, theirs, *inputs, need_weights=need_weights, **masks())


@pytest.mark.parametrize("arguments", [{}, {"average_attn_weights": False}, {"need_weights": False}], ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "masks",
    [
        dict,
        lambda: {"attn_mask": blocked(L, S), "key_padding_mask": blocked(S)},
        lambda: {"attn_mask": blocked(H, L, S)},
        lambda: {"attn_mask": floating(H, L, S), "key_padding_mask": floating(S)},
    ],
)
def test_one_sequence_without_a_batch(batch_first, masks, arguments):
    assert_same(*pair(batch_first=batch_first), *tokens(batch=None), **arguments, **masks())


@pytest.mark.parametrize("average", [True, False])
def test_weights_of_each_head_or_their_mean(average):
    mine, theirs = pair(batch_first=True)
    inputs = tokens(batch_first=True)
    assert_same(mine, theirs, *inputs, average_attn_weights=average)
    assert mine(*inputs, average_attn_weights=average)[1].shape == ((N, L, S) if average else (N, H, L, S))


@pytest.mark.parametrize("layer", [{}, {"bias": False}, {"kdim": E, "vdim": E, "batch_first": True}], ids=str)
def test_self_attention_and_encoder_decoder_attention(layer):
    mine, theirs = pair(**layer)
    x, memory, _ = tokens(layer.get("batch_first", False))
    for inputs in ((x, x, x), (x, memory, memory)):
        torch.testing.assert_close(mine(*inputs), theirs(*inputs))


def test_its_positional_arguments_are_torchs():
    for method, added in (
        ("__init__", ["similarity", "normalization", "self_attention"]),
        ("forward", ["query_padding_mask"]),
    ):
        mine, theirs = (
            [(p.name, p.default) for p in inspect.signature(getattr(kind, method)).parameters.values()]
            for kind in (MultiheadAttention, nn.MultiheadAttention)
        )
        assert mine[: len(theirs)] == theirs
        assert [name for name, _ in mine[len(theirs) :]] == added


@pytest.mark.parametrize("layer", [{}, {"kdim": 5}, {"add_bias_kv": True}, {"bias": False}], ids=str)
def test_it_starts_and_saves_as_torchs(layer):
    starts = []
    for kind in (MultiheadAttention, nn.MultiheadAttention):
        torch.manual_seed(3)
        starts.append(kind(E, H, **layer))
    mine, theirs = (start.state_dict() for start in starts)
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=0)
    starts[1].load_state_dict(mine, strict=True)
    starts[0]._reset_parameters()
    assert (starts[0].out_proj.weight == mine["out_proj.weight"]).all()


@pytest.mark.parametrize("as_float", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("layer", [{}, {"add_bias_kv": True}], ids=str)
def test_a_causal_mask_with_is_causal_true(layer, padded, need_weights, as_float):
    mine, theirs = pair(**layer)
    mask = torch.ones(L, L, dtype=torch.bool).triu(1)
    if as_float:
        mask = torch.zeros(L, L, dtype=torch.float64).masked_fill(mask, -INF)
    arguments = {"key_padding_mask": blocked(N, L)} if padded else {}
    if padded and as_float:
        arguments = {"key_padding_mask": floating(N, L)}
    x, _, _ = tokens()
    out = mine(x, x, x, attn_mask=mask, is_causal=True, need_weights=need_weights, **arguments)
    # Without the hint: with it, and without weights, torch drops attn_mask and hides the appended key.
    torch.testing.assert_close(out, theirs(x, x, x, attn_mask=mask, need_weights=need_weights, **arguments))
    if not layer:
        hinted = theirs(x, x, x, attn_mask=mask, is_causal=True, need_weights=need_weights, **arguments)
        torch.testing.assert_close(out, hinted)


def test_is_causal_with_another_mask_is_refused():
    mine, _ = pair()
    x, _, _ = tokens()
    future = torch.ones(L, L).triu(1).bool()
    wrong = [
        future.T,
        ~future,
        torch.zeros(L, L, dtype=torch.bool),
        torch.randn(L, L, dtype=torch.float64).masked_fill(future, -INF),
        window(1, 0),
        future.expand(N * H, L, L).clone().index_fill_(0, torch.tensor(3), False),
    ]
    for mask in wrong:
        with pytest.raises(InputError, match="not the causal mask"):
            mine(x, x, x, attn_mask=mask, is_causal=True)
    with pytest.raises(InputError, match="attn_mask is None"):
        mine(x, x, x, is_causal=True)
    with pytest.raises(InputError, match="a mask for 5 queries and 5 keys"):
        mine(x, x, x, attn_mask=Boolean(torch.ones(L, 3).bool()), is_causal=True)
    torch.testing.assert_close(mine(x, x, x, attn_mask=causal, is_causal=True), mine(x, x, x, attn_mask=causal))


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_query_whose_keys_are_all_blocked_has_no_weights_and_takes_the_last_bias(need_weights):
    mine, _ = pair(batch_first=True)
    inputs, mask = [x.requires_grad_() for x in tokens(batch_first=True)], blocked(L, S)
    mask[2] = True
    for given in (mask, torch.zeros(L, S, dtype=torch.float64).masked_fill(mask, -INF)):
        out, weights = mine(*inputs, attn_mask=given, need_weights=need_weights)
        torch.testing.assert_close(out[:, 2], mine.out_proj.bias.expand(N, E))
        assert weights is None or (weights[:, 2] == 0).all()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", [causal, window(1, 1) & padding(keys=torch.arange(S) < 6)], ids=str)
def test_a_limelight_mask_is_accepted(mask, need_weights):
    mine, theirs = pair()
    inputs = tokens()
    seen = mask.block(slice(0, L), slice(0, S), torch.device("cpu"))
    out = mine(*inputs, attn_mask=mask, need_weights=need_weights)
    torch.testing.assert_close(out, theirs(*inputs, attn_mask=~seen, need_weights=need_weights))


@pytest.mark.parametrize("kind", ["boolean", "float", "Mask"])
@pytest.mark.parametrize("shape", [(150, 150), (150, 90), (90, 150)])
def test_a_causal_mask_is_recognized_and_one_with_another_entry_is_not_causal(shape, kind):
    n, m = shape
    future = torch.ones(n, m, dtype=torch.bool).triu(1)
    layer = MultiheadAttention(4, 1, batch_first=True)
    query, key = torch.randn(1, n, 4), torch.randn(1, m, 4)

    def ask(blocked):
        mask = Boolean(~blocked) if kind == "Mask" else blocked
        if kind == "float":
            mask = torch.zeros(n, m).masked_fill(blocked, -math.inf)
        return layer(query, key, key, attn_mask=mask, is_causal=True, need_weights=False)

    ask(future)
    for i, j in ((0, 0), (149, 3), (3, 88), (70, 70), (63, 64), (64, 63), (89, 149), (0, 1)):
        if i < n and j < m:
            other = future.clone()
            other[i, j] ^= True
            with pytest.raises(InputError, match="not the causal mask"):
                ask(other)
    if kind == "float":
        with pytest.raises(InputError, match="not the causal mask"):
            added = torch.zeros(n, m).masked_fill(future, -math.inf)
            added[80, 10] = 0.1
            layer(query, key, key, attn_mask=added, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("is_causal", [True, False])
def test_a_float_mask_that_starts_at_zero_still_learns(is_causal, need_weights):
    mine, theirs = pair()
    inputs, start = tokens(), torch.zeros(L, S, dtype=torch.float64)
    if is_causal:
        start.masked_fill_(torch.ones(L, S).triu(1).bool(), -INF)
    gradients = []
    for layer, hint in ((mine, is_causal), (theirs, False)):
        bias = start.clone().requires_grad_()
        out, _ = layer(*inputs, attn_mask=bias, need_weights=need_weights, is_causal=hint)
        gradients.append(torch.autograd.grad(out.square().sum(), bias))
    torch.testing.assert_close(*gradients)


def test_a_float_mask_need_not_have_the_layers_dtype():
    mine, theirs = pair()
    inputs, mask = tokens(), floating(L, S).float()
    torch.testing.assert_close(mine(*inputs, attn_mask=mask), theirs(*inputs, attn_mask=mask.double()))


def test_dropout_drops_weights_in_training_only():
    """The weights returned are those that were used: torch's draw is the same, given the same seed."""
    mine, theirs = pair(dropout=0.4)
    inputs, results = tokens(), []
    for layer in (mine, theirs):
        torch.manual_seed(1)
        results.append(layer(*inputs, average_attn_weights=False))
    torch.testing.assert_close(*results)
    dropped = (results[0][1] == 0).double().mean()
    assert 0.2 < dropped < 0.6
    torch.testing.assert_close(mine.eval()(*inputs), theirs.eval()(*inputs))
    torch.testing.assert_close(mine(*inputs, need_weights=False), theirs(*inputs, need_weights=False))


def test_dropout_without_weights_has_the_same_mean_and_spread():
    mine, _ = pair(dropout=0.4, batch_first=True)
    inputs = [x.expand(2000, -1, -1) for x in tokens(batch_first=True, batch=1, n=2, m=4)]
    right = mine.eval()(*inputs, need_weights=False)[0][0]
    draws = mine.train()(*inputs, need_weights=False)[0]
    error = (draws.mean(0) - right).abs() / (draws.std(0) / 2000**0.5)
    assert error.max() < 5
    torch.testing.assert_close(draws.std(0), mine(*inputs)[0].std(0), rtol=0.15, atol=0)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("similarity", [Cosine(), Euclidean(2.0)], ids=str)
def test_another_similarity_and_normalization(similarity, need_weights):
    layer = MultiheadAttention(E, H, batch_first=True, similarity=similarity, normalization=Softmax(0.5)).double()
    query, key, value = tokens(batch_first=True)
    out, weights = layer(query, key, value, need_weights=need_weights, average_attn_weights=False)
    projections = zip((query, key, value), layer.in_proj_weight.chunk(3), strict=True)
    q, k, v = ((x @ w.T).unflatten(-1, (H, -1)).transpose(1, 2) for x, w in projections)
    P = Attention(q, k, similarity, Softmax(0.5)).dense()
    torch.testing.assert_close(out, layer.out_proj((P @ v).transpose(1, 2).flatten(2)))
    assert not need_weights or torch.allclose(weights, P)


def test_parameters_of_the_mechanism_are_trained_and_saved_with_the_layer():
    layer = MultiheadAttention(E, H, similarity=Metric(nn.Linear(E // H, 2)), normalization=Hybrid(H))
    x = torch.randn(L, N, E)
    assert {"similarity.phi.weight", "normalization.logit"} < set(layer.state_dict())
    for need_weights in (True, False):
        layer.zero_grad()
        layer(x, x, x, need_weights=need_weights)[0].square().sum().backward()
        assert (layer.normalization.logit.grad != 0).all()
        assert (layer.similarity.phi.weight.grad != 0).any()
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(twin(x, x, x), layer(x, x, x))


@pytest.mark.parametrize("need_weights", [True, False])
def test_padding_changes_no_output_under_any_normalization(need_weights):
    """Column normalization sums over queries, and the padded ones must not be among them."""
    layer = MultiheadAttention(E, H, batch_first=True, normalization=Softmax(1.0), self_attention=True).double()
    x = torch.randn(N, L, E, dtype=torch.float64)
    more = torch.cat([x, torch.randn(N, 3, E, dtype=torch.float64)], 1)
    mask = (torch.arange(L + 3) >= L).expand(N, -1)
    alone, _ = layer(x, x, x, need_weights=need_weights)
    for given in (mask, torch.zeros(N, L + 3, dtype=torch.float64).masked_fill(mask, -INF)):
        padded, _ = layer(more, more, more, given, need_weights=need_weights)
        torch.testing.assert_close(padded[:, :L], alone)


@pytest.mark.parametrize("training", [True, False])
def test_it_replaces_self_attention_in_torchs_encoder_layer(training):
    """In eval mode torch's layer would compute its own attention from our weights, past our similarity."""
    encoder = nn.TransformerEncoderLayer(E, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64).train(training)
    x, mask = torch.randn(N, L, E, dtype=torch.float64), (torch.arange(L) >= 4).expand(N, -1)
    with torch.no_grad():
        right = encoder(x, src_key_padding_mask=mask)
        for similarity in (Dot(), Euclidean(0.5)):
            layer = MultiheadAttention(E, 2, batch_first=True, dtype=torch.float64, similarity=similarity)
            layer.load_state_dict(encoder.self_attn.state_dict())
            encoder.self_attn = layer.train(training)
            distance = (encoder(x, src_key_padding_mask=mask) - right)[:, :4].abs().max()
            assert (distance < 1e-12) == isinstance(similarity, Dot)


def test_it_replaces_every_attention_in_torchs_transformer():
    whole = nn.Transformer(E, 4, 2, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    source, target = tokens(batch_first=True)[:2]
    mask = whole.generate_square_subsequent_mask(S, dtype=torch.float64)
    arguments = {"tgt_mask": mask, "tgt_is_causal": True, "memory_mask": blocked(S, L)}
    right = whole(source, target, **arguments)
    for parent in list(whole.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MultiheadAttention):
                mine = MultiheadAttention(E, 4, batch_first=True, dtype=torch.float64)
                mine.load_state_dict(child.state_dict())
                setattr(parent, name, mine)
    assert sum(isinstance(module, MultiheadAttention) for module in whole.modules()) == 6
    torch.testing.assert_close(whole(source, target, **arguments), right)


@pytest.mark.parametrize("need_weights", [True, False])
def test_autocast(need_weights):
    mine, theirs = (layer.float() for layer in pair(add_bias_kv=True))
    query, key, value = tokens()
    inputs = query.bfloat16(), key.float(), value.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, right = (layer(*inputs, need_weights=need_weights)[0] for layer in (mine, theirs))
    assert out.dtype == right.dtype
    torch.testing.assert_close(out, right, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 10}, "multiple of num_heads=3, got 10"),
        ({"embed_dim": 0}, "embed_dim expects a whole number ≥ 1, got 0"),
        ({"num_heads": 1.5}, "num_heads expects a whole number"),
        ({"num_heads": None}, "num_heads expects a whole number"),
        ({"kdim": 0}, "kdim expects"),
        ({"vdim": True}, "vdim expects"),
        ({"dropout": 1.0}, "dropout expects a probability"),
        ({"dropout": -0.1}, "dropout expects a probability"),
        ({"similarity": "dot"}, "similarity expects"),
        ({"similarity": Dot}, r"write Dot\(\)"),
        ({"normalization": None}, "normalization expects"),
    ],
)
def test_invalid_layer_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        MultiheadAttention(**{"embed_dim": E, "num_heads": H} | arguments)


INPUTS = dict(zip(("query", "key", "value"), tokens(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"query": torch.randn(L, N, 5).double()}, InputError, r"query expects .*12.* got \(5, 2, 5\)"),
        ({"key": torch.randn(S, N, 5).double()}, InputError, "key expects"),
        ({"key": torch.randn(S, E).double()}, InputError, "key expects"),
        ({"query": torch.randn(1, L, N, E).double()}, InputError, "query expects"),
        ({"value": torch.randn(S + 1, N, E).double()}, InputError, "key and value must have the same shape"),
        ({"query": torch.randn(L, N + 1, E).double()}, InputError, "same batch size"),
        ({"query": torch.randn(L, N, E)}, DtypeError, "query expects the layer's dtype, torch.float64, got"),
        ({"value": None}, DtypeError, "value expects a torch tensor, got NoneType"),
        ({"attn_mask": torch.zeros(S, L, dtype=torch.bool)}, InputError, r"\(5, 7\) or \(6, 5, 7\), got \(7, 5\)"),
        ({"attn_mask": torch.zeros(N, L, S, dtype=torch.bool)}, InputError, "attn_mask expects shape"),
        ({"attn_mask": torch.zeros(L, S, dtype=torch.int)}, DtypeError, "attn_mask expects bool"),
        ({"attn_mask": "causal"}, DtypeError, "tensor or a Mask, got str"),
        ({"attn_mask": torch.full((L, S), float("nan"))}, InputError, "attn_mask expects finite"),
        ({"attn_mask": torch.full((L, S), INF)}, InputError, "attn_mask expects finite"),
        ({"attn_mask": torch.zeros(S, S, dtype=torch.bool), "is_causal": True}, InputError, "attn_mask expects shape"),
        ({"key_padding_mask": torch.zeros(S, N, dtype=torch.bool)}, InputError, "key_padding_mask expects shape"),
        ({"key_padding_mask": torch.zeros(S, dtype=torch.bool)}, InputError, "key_padding_mask expects shape"),
        ({"key_padding_mask": torch.zeros(N, S, dtype=torch.long)}, DtypeError, "key_padding_mask expects bool"),
        ({"key_padding_mask": padding(keys=torch.ones(S).bool())}, DtypeError, "key_padding_mask expects a tensor"),
        ({"key_padding_mask": torch.full((N, S), INF)}, InputError, "key_padding_mask expects finite"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_unsupported_calls_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MultiheadAttention(E, H, dtype=torch.float64)(**INPUTS | arguments)


@pytest.mark.parametrize("name", ["value", "attn_mask", "key_padding_mask"])
def test_tensors_on_other_devices_are_refused(name):
    shapes = {"value": (S, N, E), "attn_mask": (L, S), "key_padding_mask": (N, S)}
    elsewhere = torch.zeros(shapes[name], device="meta", dtype=torch.float64)
    with pytest.raises(DeviceError, match=f"{name} is on meta, .* on cpu"):
        MultiheadAttention(E, H, dtype=torch.float64)(**INPUTS | {name: elsewhere})


def test_a_limelight_mask_with_appended_keys_is_refused():
    with pytest.raises(InputError, match="does not cover the keys that the layer appends"):
        pair(add_bias_kv=True)[0](*tokens(), attn_mask=causal)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    x = torch.nested.nested_tensor([torch.randn(3, E), torch.randn(4, E)])
    with pytest.raises(InputError, match="nested"):
        MultiheadAttention(E, H, batch_first=True)(x, x, x)


MIXING = [Softmax(1.0), Sinkhorn(2)]


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("normalization", MIXING, ids=repr)
def test_padded_queries_are_given_and_not_guessed_from_identity(normalization, need_weights):
    """Equal tensors that are other objects give the same output."""
    layer = MultiheadAttention(E, H, batch_first=True, normalization=normalization, self_attention=True).double()
    x, blocked_keys = torch.randn(N, L, E, dtype=torch.float64), (torch.arange(L) >= 4).expand(N, -1)
    right, _ = layer(x, x, x, blocked_keys, need_weights)
    alike, _ = layer(x.clone(), x.clone(), x.clone(), blocked_keys, need_weights)
    torch.testing.assert_close(alike, right)

    layer.self_attention = False
    said, _ = layer(x, x.clone(), x, blocked_keys, need_weights, query_padding_mask=blocked_keys)
    torch.testing.assert_close(said, right)
    with pytest.raises(InputError, match=r"self_attention=True if .*or give query_padding_mask \(all False"):
        layer(x, x, x, blocked_keys, need_weights)
    none = torch.zeros_like(blocked_keys)
    assert (
        layer(x, x, x, blocked_keys, need_weights, query_padding_mask=none)[0][:, :4] - right[:, :4]
    ).abs().max() > 1e-3


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_padded_query_has_no_weights(need_weights):
    layer = MultiheadAttention(E, H, batch_first=True).double()
    x, memory = torch.randn(N, L, E, dtype=torch.float64), torch.randn(N, S, E, dtype=torch.float64)
    padded = (torch.arange(L) >= 4).expand(N, -1)
    output, weights = layer(x, memory, memory, None, need_weights, query_padding_mask=padded)
    right, _ = layer(x, memory, memory)
    torch.testing.assert_close(output[:, :4], right[:, :4])
    torch.testing.assert_close(output[:, 4:], layer.out_proj.bias.expand(N, L - 4, E))
    if need_weights:
        assert (weights[:, 4:] == 0).all()
    alone, _ = layer(x[0], memory[0], memory[0], None, need_weights, query_padding_mask=padded[0])
    torch.testing.assert_close(alone, output[0])


def test_wrong_query_padding_is_refused():
    layer = MultiheadAttention(E, H, batch_first=True, normalization=Softmax(1.0), self_attention=True)
    x, memory = torch.randn(N, L, E), torch.randn(N, S, E)
    with pytest.raises(InputError, match=f"same tokens, but there are {L} queries and {S} keys"):
        layer(x, memory, memory, torch.zeros(N, S).bool())
    with pytest.raises(DtypeError, match="query_padding_mask expects bool"):
        layer(x, memory, memory, query_padding_mask=torch.zeros(N, L))
    with pytest.raises(InputError, match="query_padding_mask expects shape"):
        layer(x, memory, memory, query_padding_mask=torch.zeros(N, L + 1).bool())


class Adapted(nn.Module):
    """A linear layer with a low-rank update, which has no attribute `weight`."""

    def __init__(self, base):
        super().__init__()
        self.base, self.down, self.up = (
            base,
            nn.Linear(base.in_features, 2, False),
            nn.Linear(2, base.out_features, False),
        )

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def test_a_wrapped_output_projection_is_used():
    layer, x = MultiheadAttention(E, H, batch_first=True), torch.randn(N, L, E)
    plain, _ = layer(x, x, x)
    layer.out_proj = Adapted(layer.out_proj)
    wrapped, _ = layer(x, x, x)
    assert (wrapped - plain).abs().max() > 1e-3
    nn.init.zeros_(layer.out_proj.up.weight)
    torch.testing.assert_close(layer(x, x, x)[0], plain)


FULLGRAPH = """
import torch
from limelight import Euclidean, Softmax, causal, padding
from limelight.nn import MultiheadAttention

torch.manual_seed(0)
x = torch.randn(2, 6, 8)
keys = torch.zeros(2, 6).bool()
keys[0, 4:] = True
future = torch.ones(6, 6).bool().triu(1)
floats = torch.zeros(6, 6).masked_fill(future, float("-inf"))
for options in ({}, {"similarity": Euclidean()}, {"normalization": Softmax(1.0), "self_attention": True}):
    layer = MultiheadAttention(8, 2, batch_first=True, **options)
    calls = [{}, {"key_padding_mask": keys}, {"key_padding_mask": torch.zeros(2, 6).masked_fill(keys, float("-inf"))}]
    if "normalization" not in options:
        calls += [{"attn_mask": future}, {"attn_mask": floats}, {"attn_mask": future, "is_causal": True}]
        calls += [{"attn_mask": floats, "is_causal": True}, {"attn_mask": causal}, {"attn_mask": floats + 0.3}]
        calls += [{"attn_mask": future, "key_padding_mask": keys}]
    for i, call in enumerate(calls):
        call["need_weights"] = i % 2 == 0
        torch.compiler.reset()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, x, x, **call)[0], layer(x, x, x, **call)[0])
        print("same")
"""


@pytest.mark.slow
def test_in_one_compiled_graph_with_every_mask():
    """In a process of its own: the checks of shapes that the tests switch on cannot be traced."""
    done = subprocess.run([sys.executable, "-c", FULLGRAPH], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 23

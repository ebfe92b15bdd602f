"""The Transformer's parts are torch's own layers, part by part, and refuse what has no meaning."""

import copy
import math

import pytest
import torch
from torch import nn

from limelight import Dot, DtypeError, InputError
from limelight.data.special_tokens import BEGIN, END, FIRST, PAD
from limelight.mask import causal
from limelight.models.decoding import greedy
from limelight.models.positions import LearnedPositions, SinusoidalPositions, relative_similarity, sinusoidal
from limelight.models.transformer import (
    DecoderLayer,
    EncoderLayer,
    ResidualAttention,
    ResidualFeedForward,
    Skip,
    Transformer,
    padding_of,
)

EXACT = {"atol": 1e-12, "rtol": 1e-12}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(**more):
    settings = {"tokens": 9, "width": 8, "heads": 2, "hidden": 12, "layers": 2, "positions": SinusoidalPositions(8)}
    torch.manual_seed(0)
    return Transformer(**(settings | more)).double()


def symbols(*shape, tokens=9, seed=0):
    return torch.randint(FIRST, tokens, shape, generator=torch.Generator().manual_seed(seed))


def copy_attention(ours: ResidualAttention, norm: nn.LayerNorm, theirs: nn.MultiheadAttention):
    norm.load_state_dict(ours.norm.state_dict())
    theirs.load_state_dict(ours.attention.state_dict(), strict=False)


def copy_feed_forward(ours: ResidualFeedForward, norm: nn.LayerNorm, layer):
    norm.load_state_dict(ours.norm.state_dict())
    layer.linear1.load_state_dict(ours.network[0].state_dict())
    layer.linear2.load_state_dict(ours.network[2].state_dict())


def torchs_layer(kind, ours):
    settings = {"dropout": 0.0, "batch_first": True, "norm_first": True, "dtype": torch.float64}
    theirs = kind(8, 2, 12, **settings)
    copy_attention(ours.self_attention, theirs.norm1, theirs.self_attn)
    if isinstance(ours, DecoderLayer):
        copy_attention(ours.cross_attention, theirs.norm2, theirs.multihead_attn)
    copy_feed_forward(ours.feed_forward, theirs.norm3 if isinstance(ours, DecoderLayer) else theirs.norm2, theirs)
    return theirs


def jittered(layer):
    """The layer with norms and biases that are not those of the start, so that each of them can make a difference."""
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.add_(0.3 * normal(*p.shape, seed=i))
    return layer


@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_layer_is_torchs(padded):
    ours, x = jittered(EncoderLayer(8, 2, 12).double()), normal(3, 5, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1]]) if padded else None
    expected = torchs_layer(nn.TransformerEncoderLayer, ours)(x, src_key_padding_mask=padding)
    torch.testing.assert_close(ours(x, padding), expected, **EXACT)


@pytest.mark.parametrize("mask", [causal, None])
def test_a_decoder_layer_is_torchs(mask):
    ours, x, memory = jittered(DecoderLayer(8, 2, 12, mask).double()), normal(3, 5, 8), normal(3, 4, 8, seed=1)
    hidden = None if mask is None else torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.arange(4) >= torch.tensor([[4], [2], [3]])
    expected = torchs_layer(nn.TransformerDecoderLayer, ours)(
        x, memory, tgt_mask=hidden, memory_key_padding_mask=padding
    )
    torch.testing.assert_close(ours(x, memory, padding), expected, **EXACT)


def test_the_whole_is_embedding_positions_layers_norm_and_classifier():
    model, source, target = jittered(small()), symbols(2, 4), symbols(2, 3, seed=1)

    def read(sequences):
        return model.embedding(sequences) + sinusoidal(sequences.shape[1], 8).double()

    memory, h = read(source), read(target)
    for layer in model.encoder:
        memory = torchs_layer(nn.TransformerEncoderLayer, layer)(memory)
    memory = model.encoded_norm(memory)
    for layer in model.decoder:
        hidden = torch.ones(3, 3, dtype=torch.bool).triu(1)
        h = torchs_layer(nn.TransformerDecoderLayer, layer)(h, memory, tgt_mask=hidden)
    torch.testing.assert_close(model(source, target), model.classifier(model.decoded_norm(h)), **EXACT)


def test_a_place_of_the_target_sees_nothing_that_comes_after_it():
    source, target = symbols(2, 4), symbols(2, 5, seed=1)
    other = target.clone()
    other[:, 3:] = symbols(2, 2, seed=2)
    assert not torch.equal(other, target)
    model = jittered(small())
    torch.testing.assert_close(model(source, other)[:, :3], model(source, target)[:, :3], **EXACT)
    open_model = jittered(small(mask=None))
    assert (open_model(source, other) - open_model(source, target))[:, :3].abs().max() > 1e-3


def test_padding_changes_nothing():
    model, source, target = jittered(small()), symbols(2, 4), symbols(2, 3, seed=1)
    padded = torch.cat([source, torch.full((2, 3), PAD)], 1)
    torch.testing.assert_close(model(padded, target), model(source, target), **EXACT)
    assert padding_of(source) is None


def test_the_step_function_is_the_parallel_pass_one_place_at_a_time():
    model, source, target = jittered(small()), symbols(2, 4), symbols(2, 5, seed=1)
    together, step = model(source, target), model.next_token(source)
    alone = torch.stack([step(target[:, : t + 1]) for t in range(5)], 1)
    torch.testing.assert_close(alone, together, **EXACT)
    beams = model.next_token(source, beams=3)(target.repeat_interleave(3, 0))
    torch.testing.assert_close(beams, together[:, -1].repeat_interleave(3, 0), **EXACT)


def test_cross_attention_weights_are_those_that_are_used():
    model, source, target = jittered(small(layers=1)), symbols(2, 4), symbols(2, 3, seed=1)
    weights, memory, layer = model.cross_weights(source, target), model.encode(source), model.decoder[0]
    assert weights.shape == (2, 2, 3, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3, dtype=torch.float64))
    h = layer.self_attention(model.positions(model.embedding(target)), mask=causal)
    attention = layer.cross_attention.attention
    values = (memory @ attention.in_proj_weight[16:].T + attention.in_proj_bias[16:]).unflatten(-1, (2, 4))
    mixed = attention.out_proj(torch.einsum("nhts,nshd->nthd", weights, values).flatten(2))
    torch.testing.assert_close(layer.cross_attention(h, memory), h + mixed, **EXACT)


def test_a_part_that_is_left_out_adds_nothing():
    layer, x = DecoderLayer(8, 2, 12).double(), normal(2, 3, 8)
    layer.self_attention, layer.cross_attention, layer.feed_forward = Skip(), Skip(), Skip()
    assert torch.equal(layer(x, normal(2, 4, 8)), x)
    with pytest.raises(InputError, match="no cross-attention"):
        layer.cross_weights(x, x)


def test_a_small_model_learns_to_reverse():
    torch.manual_seed(0)
    model, generator = small(tokens=FIRST + 4, layers=1).float(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)

    def batch(n):
        source = torch.randint(FIRST, FIRST + 4, (n, 3), generator=generator)
        target = torch.cat([torch.full((n, 1), BEGIN), source.flip(1), torch.full((n, 1), END)], 1)
        return source, target

    for _ in range(250):
        source, target = batch(32)
        loss = nn.functional.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, target = batch(64)
    written = greedy(model.next_token(source), target[:, :1], END, most=9)
    assert torch.equal(written, target[:, 1:])  # it also knows where to end


def test_sinusoidal_positions_turn_by_a_fixed_angle():
    table = sinusoidal(50, 8).double()
    pairs = torch.view_as_complex(table.unflatten(1, (4, 2)).contiguous())  # sin + i cos
    turns = pairs[7:] / pairs[:-7]
    torch.testing.assert_close(turns, turns[:1].expand_as(turns), atol=1e-5, rtol=0)
    torch.testing.assert_close(table.square().sum(1), torch.full((50,), 4.0, dtype=torch.float64))
    expected = [math.sin(99_999), math.cos(99_999), math.sin(9_999.9), math.cos(9_999.9)]  # speeds 1 and 1/10
    assert sinusoidal(100_000, 8)[-1, :4].tolist() == pytest.approx(expected, abs=1e-6)


def test_positions_are_added_and_end_where_they_end():
    x, learned = normal(2, 5, 8).float(), LearnedPositions(6, 8)
    torch.testing.assert_close(learned(x) - x, learned.table[:5].expand(2, 5, 8), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(SinusoidalPositions(8)(x) - x, sinusoidal(5, 8).expand(2, 5, 8), atol=1e-6, rtol=1e-5)
    with pytest.raises(InputError, match="end at a length of 6, got a sequence of 7"):
        learned(torch.zeros(1, 7, 8))
    half = SinusoidalPositions(8)(x.half())
    assert half.dtype == torch.float16


def test_with_relative_positions_a_layer_sees_distances_and_no_places():
    layer = jittered(EncoderLayer(8, 2, 12, relative_similarity(3, 2)).double())
    x = normal(1, 6, 8)
    padding = torch.arange(9)[None] < 3  # the same six tokens, three places later
    moved = layer(torch.cat([normal(1, 3, 8, seed=1), x], 1), padding)[:, 3:]
    torch.testing.assert_close(moved, layer(x), **EXACT)
    assert (layer(x.flip(1)).flip(1) - layer(x)).abs().max() > 1e-3
    plain = jittered(EncoderLayer(8, 2, 12, Dot()).double())
    torch.testing.assert_close(plain(x.flip(1)).flip(1), plain(x), **EXACT)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(symbols(2, 4) * 0 + 9, symbols(2, 3)), InputError, "from 0 to 8, got tokens from 9 to 9"),
        (lambda m: m(symbols(2, 4), -symbols(2, 3)), InputError, "target expects tokens from 0 to 8"),
        (lambda m: m(symbols(2, 0), symbols(2, 3)), InputError, r"source expects the shape \(n, t\)"),
        (lambda m: m(symbols(2, 4), symbols(2, 0)), InputError, r"target expects the shape \(n, t\)"),
        (lambda m: m(symbols(4), symbols(3)), InputError, r"got \(4,\)"),
        (lambda m: m(symbols(2, 4).float(), symbols(2, 3)), DtypeError, "whole numbers"),
        (lambda m: m(symbols(2, 4) * 0, symbols(2, 3)), InputError, "at least one token that is not padding"),
        (lambda m: small(heads=3), InputError, "multiple of num_heads"),
        (lambda m: small(layers=0), InputError, "layers expects a whole number"),
        (lambda m: small(hidden=0), InputError, "hidden expects a whole number"),
        (lambda m: small(tokens=True), InputError, "tokens expects a whole number"),
        (lambda m: SinusoidalPositions(7), InputError, "even width"),
        (lambda m: sinusoidal(0, 8), InputError, "length expects a whole number ≥ 1, got 0"),
        (lambda m: SinusoidalPositions(8)(torch.zeros(1, 0, 8)), InputError, "with t ≥ 1"),
        (lambda m: LearnedPositions(4, 8)(torch.zeros(1, 3, 6)), InputError, r"tokens \(n, t, 8\)"),
        (lambda m: relative_similarity(2, 0), InputError, "heads expects"),
        (lambda m: relative_similarity(-1, 2), InputError, "whole number ≥ 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call(small())


def test_a_copy_is_a_model_of_its_own():
    model = small()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.classifier.bias += 1
    assert not torch.equal(model(symbols(1, 3), symbols(1, 2)), twin(symbols(1, 3), symbols(1, 2)))

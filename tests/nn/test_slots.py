"""Slot attention against the pseudo-code of its paper (2006.15055, algorithm 1), written out here."""

import copy

import pytest
import torch

from limelight import Euclidean, InputError
from limelight.nn import SlotAttention


def paper(layer, inputs, slots, score=None, eps=0.0, real=None):
    """Algorithm 1 with arrays of weights."""
    inputs = layer.norm_inputs(inputs)
    k, v = layer.key(inputs), layer.value(inputs)
    for _ in range(layer.iterations):
        slots_prev = slots
        q = layer.query(layer.norm_slots(slots))
        scores = k @ q.mT / q.shape[-1] ** 0.5 if score is None else score(k, q)
        attn = scores.exp() / scores.exp().sum(-1, keepdim=True)  # softmax over the slots
        attn = attn + eps if real is None else attn * real[..., None]
        updates = (attn / attn.sum(-2, keepdim=True)).mT @ v  # weighted mean over the inputs
        slots = torch.stack([layer.gru(u, s) for u, s in zip(updates, slots_prev, strict=True)])
        slots = slots + layer.mlp(layer.norm_mlp(slots))
    return slots


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return SlotAttention(inputs=6, slots=4, width=8, hidden=10).double()


@pytest.fixture
def x():
    return torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(1)).double()


def test_it_is_the_papers_algorithm(layer, x):
    start = layer.draw(3)
    torch.testing.assert_close(layer(x, start), paper(layer, x, start), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x, start), paper(layer, x, start, eps=1e-8), rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_algorithm(layer, x):
    x, start = x.requires_grad_(), layer.draw(3)
    found = []
    for out in (layer(x, start), paper(layer, x, start)):
        sources = [x, *layer.parameters()]
        first = torch.autograd.grad(out.square().sum(), sources, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), x)
        found.append((*first, *second))
    torch.testing.assert_close(*found)
    assert all((g != 0).any() for g in found[0])


def test_another_similarity(x):
    layer = SlotAttention(6, 4, 8, similarity=Euclidean(1.5)).double()
    start = layer.draw(3)
    right = paper(layer, x, start, lambda k, q: -torch.cdist(k, q).square() / 2 / 1.5**2)
    torch.testing.assert_close(layer(x, start), right)


def test_padding_has_no_influence_whatever_it_holds(layer, x):
    real = torch.arange(9).expand(3, 9) < torch.tensor([[9], [5], [1]])
    start = layer.draw(3)
    hidden = x.masked_fill(~real[..., None], torch.nan)
    out = layer(hidden, start, real)
    torch.testing.assert_close(out, paper(layer, x, start, real=real))
    torch.testing.assert_close(out[1:2], layer(x[1:2, :5], start[1:2]))
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_inputs_may_be_permuted_and_slots_too(layer, x):
    start, order, turn = layer.draw(3), torch.randperm(9), torch.randperm(4)
    out = layer(x, start)
    torch.testing.assert_close(layer(x[:, order], start), out)
    torch.testing.assert_close(layer(x, start[:, turn]), out[:, turn])


def test_the_assignment_is_a_softmax_over_the_slots(layer, x):
    slots = layer(x)
    P = layer.assignment(x, slots)
    assert P.shape == (3, 9, 4)
    k, q = layer.key(layer.norm_inputs(x)), layer.query(layer.norm_slots(slots))
    torch.testing.assert_close(P.dense(), (k @ q.mT / 8**0.5).softmax(-1))


def test_first_slots_are_drawn_from_one_normal_distribution(layer):
    with torch.no_grad():
        layer.mu.copy_(torch.arange(8.0)[None])
        layer.log_sigma.fill_(-1.0)
    drawn = layer.draw(2000, slots=7)
    assert drawn.shape == (2000, 7, 8)
    torch.testing.assert_close(drawn.mean((0, 1)), torch.arange(8.0).double(), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.std((0, 1)), torch.full((8,), -1.0).exp().double(), rtol=0.05, atol=0)
    assert layer(torch.randn(2000, 3, 6).double(), drawn).shape == (2000, 7, 8)


def test_other_batches_no_batch_and_a_copy(layer, x):
    start = layer.draw(3)
    torch.testing.assert_close(layer(x[0], start[0]), layer(x, start)[0])
    torch.testing.assert_close(layer(x[None], start[None])[0], layer(x, start))
    other = SlotAttention(6, 4, 8, 10).double()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x, start), layer(x, start))
    assert SlotAttention(6, 4, dtype=torch.float64).mu.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_and_autocast(layer, x, dtype):
    start = layer.draw(3)
    low = copy.deepcopy(layer).to(dtype)
    right = layer(x, start)
    torch.testing.assert_close(low(x.to(dtype), start.to(dtype)).double(), right, rtol=0.1, atol=0.1)
    with torch.autocast("cpu", dtype):
        out = copy.deepcopy(layer).float()(x.float(), start.float())
    torch.testing.assert_close(out.double(), right, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SlotAttention(6, 0), "slots expects a whole number ≥ 1, got 0"),
        (lambda: SlotAttention(6, 4, iterations=True), "iterations expects a whole number"),
        (lambda: SlotAttention(6, 4)(torch.randn(2, 9, 5)), r"expects inputs \(\*batch, m, 6\), got \(2, 9, 5\)"),
        (lambda: SlotAttention(6, 4).draw(2, slots=0), "slots expects"),
        (lambda: SlotAttention(6, 4, similarity="dot"), "similarity expects"),
    ],
)
def test_other_values_raise_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()

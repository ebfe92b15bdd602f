"""Differential attention is the difference of two attentions."""

import math

import pytest
import torch

from limelight import (
    Attention,
    DeviceError,
    DifferentialAttention,
    Dot,
    DtypeError,
    Euclidean,
    InputError,
    Sigmoid,
    Softmax,
    causal,
    padding,
)
from limelight.nn import DifferentialShare
from limelight.propagation import heat, resolvent, steps

torch.manual_seed(0)
Q, R, K, L, V = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 5, 6, 6, 6))
SHARES = {
    "a number": 0.3,
    "one for all": torch.tensor(1.4, dtype=torch.float64),
    "heads": torch.tensor([0.1, 0.7, -0.2], dtype=torch.float64),
    "a batch": torch.tensor([0.1, 0.7], dtype=torch.float64)[:, None, None, None],
}
MASKS = {"none": None, "causal": causal, "keys": padding(keys=torch.arange(6) < 4)}


def softmax(q, k, mask):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask.block(slice(0, 5), slice(0, 6), q.device), -torch.inf)
    return scores.softmax(-1)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("mask", MASKS)
def test_it_is_its_equation(mask, share):
    given = MASKS[mask]
    A = DifferentialAttention(Attention(Q, K, mask=given), Attention(R, L, mask=given), SHARES[share])
    number = SHARES[share][:, None, None] if share == "heads" else SHARES[share]
    P = softmax(Q, K, given) - number * softmax(R, L, given)
    assert A.shape == (2, 3, 5, 6)
    torch.testing.assert_close(A @ V, P @ V)
    torch.testing.assert_close(A.T @ Q, P.mT @ Q)
    torch.testing.assert_close(A.dense(), P)
    torch.testing.assert_close(A.T.dense(), P.mT)
    torch.testing.assert_close(A.column_mass(), P.sum(-2))


def test_the_papers_attention_of_one_head():
    """(softmax(Q₁K₁ᵀ/√d) − λ softmax(Q₂K₂ᵀ/√d)) V with queries and keys that are split into halves."""
    q, k, v = torch.randn(5, 8).double(), torch.randn(6, 8).double(), torch.randn(6, 8).double()
    share = DifferentialShare(4, layer=3).double()
    (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
    (a1, a2), (b1, b2) = share.queries, share.keys
    lam = torch.exp(a1 @ b1) - torch.exp(a2 @ b2) + 0.8 - 0.6 * math.exp(-0.3 * 2)
    right = ((q1 @ k1.T / 2).softmax(-1) - lam * (q2 @ k2.T / 2).softmax(-1)) @ v
    mine = DifferentialAttention(Attention(q1, k1), Attention(q2, k2), share()) @ v
    torch.testing.assert_close(mine, right)
    parameters = share.queries, share.keys
    found = [torch.autograd.grad(out.square().sum(), parameters, retain_graph=True) for out in (mine, right)]
    torch.testing.assert_close(*found)


def test_the_share_of_a_layer():
    assert [round(DifferentialShare(4, layer).initial, 4) for layer in (1, 2, 100)] == [0.2, 0.3555, 0.8]
    share = DifferentialShare(64)
    assert share().shape == ()
    assert 0.05 < share.queries.std() < 0.15
    assert sorted(share.state_dict()) == ["keys", "queries"]


def test_gradients_of_everything_and_of_the_share():
    def everything(q, r, k, v, share):
        A = DifferentialAttention(Attention(q, k, mask=causal), Attention(r, L, Euclidean(1.5)), share)
        return A @ v, A.T @ q, A.column_mass()

    inputs = [x.clone().requires_grad_() for x in (Q, R, K, V, SHARES["heads"])]
    assert torch.autograd.gradcheck(everything, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(everything, inputs, fast_mode=True)


def test_other_similarities_normalizations_and_batches():
    first, second = Attention(Q, K, Euclidean(1.5), Softmax(1.0)), Attention(R[0, 0], L[0, 0], Dot(), Sigmoid())
    A = DifferentialAttention(first, second, 0.4)
    torch.testing.assert_close(A @ V, (first.dense() - 0.4 * second.dense()) @ V)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_and_autocast(dtype):
    q, r, k, x, v = (each.to(dtype) for each in (Q, R, K, L, V))
    low = DifferentialAttention(Attention(q, k), Attention(r, x), 0.3) @ v
    high = DifferentialAttention(*(Attention(a.double(), b.double()) for a, b in ((q, k), (r, x))), 0.3) @ v.double()
    assert low.dtype == dtype
    torch.testing.assert_close(low.double(), high, atol=4 * torch.finfo(dtype).eps, rtol=4 * torch.finfo(dtype).eps)
    with torch.autocast("cpu", dtype):
        out = DifferentialAttention(Attention(Q.float(), K.float()), Attention(R.float(), L.float()), 0.3) @ V.float()
    assert out.dtype == dtype


def test_nan_in_a_hidden_value_reaches_no_output():
    v = V.clone()
    v[..., 4:, :] = torch.nan
    mask = MASKS["keys"]
    P = DifferentialAttention(Attention(Q, K, mask=mask), Attention(R, L, mask=mask), 0.3)
    torch.testing.assert_close(P @ v, P @ v.nan_to_num())


MEASURES = {
    "entropy": (), "free_energy": (), "logsumexp": (), "mean_position": (), "mean_distance": (), "topk": (2,),
    "irreversibility": (),
}  # fmt: skip


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_of_a_distribution_raise(measure):
    A = DifferentialAttention(Attention(Q, K), Attention(R, L), 0.3)
    with pytest.raises(InputError, match=rf"{measure}\(\) takes a row for a distribution.*may be negative"):
        getattr(A, measure)(*MEASURES[measure])


def test_processes():
    A = DifferentialAttention(Attention(Q, Q), Attention(R, R), 0.3)
    torch.testing.assert_close(steps(A, Q, 3), torch.linalg.matrix_power(A.dense(), 3) @ Q)
    for process in (heat, resolvent):
        with pytest.raises(InputError, match="weights of DifferentialAttention may be negative"):
            process(A, Q, 0.5)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: DifferentialAttention(Attention(Q, K), Attention(R, L[..., :5, :]), 0.3), InputError, "same numbers"),
        (lambda: DifferentialAttention(Attention(Q, K), Attention(R.float(), L.float()), 0.3), DtypeError, "share a d"),
        (
            lambda: DifferentialAttention(Attention(Q, K), Attention(Q.to("meta"), K.to("meta")), 0.3),
            DeviceError,
            "share a d",
        ),
        (lambda: DifferentialAttention(Attention(Q, K), Attention(R, L), float("nan")), InputError, "must be finite"),
        (lambda: DifferentialAttention(Attention(Q, K), Attention(R, L), torch.ones(4)), InputError, "not broadcast"),
        (lambda: DifferentialAttention(Q, Attention(R, L), 0.3), InputError, "first expects an Attention"),
        (lambda: DifferentialShare(0), InputError, "width=…. expects a whole number"),
        (lambda: DifferentialShare(4, layer=0), InputError, "layer=…. expects a whole number"),
    ],
)
def test_other_values_raise_one_sentence(make, error, says):
    with pytest.raises(error, match=says):
        make()

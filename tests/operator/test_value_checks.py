"""How often a call reads values of tensors, for which a GPU must wait: never inside `without_value_checks`."""

import pytest
import torch

from limelight import (
    Attention,
    ConvergenceError,
    DtypeError,
    Entmax,
    Euclidean,
    InputError,
    KeyCache,
    Sinkhorn,
    Softmax,
    Sparsemax,
    StudentT,
    TopK,
    attend,
    causal,
    padding,
    window,
    without_value_checks,
)
from tests.dispatch import Counting

# Operations that give Python a number of a tensor, or a shape that depends on its values.
READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default, torch.ops.aten.nonzero.default}


def reads_of(call):
    with Counting(READS) as reads:
        out = call()
    return reads.count, out


Q, K, V = (torch.randn(2, 3, 20, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
REAL = torch.arange(20) < torch.tensor([20, 13])[:, None, None]
FLOATS = torch.zeros(2, 1, 20, 20).masked_fill(~REAL[:, :, None], torch.finfo(torch.float32).min)
CALLS = {  # with the largest number of reads of each
    "plain": (lambda: attend(Q, K, V), 1),
    "causal": (lambda: attend(Q, K, V, is_causal=True), 2),
    "boolean": (lambda: attend(Q, K, V, attn_mask=REAL[:, :, None]), 2),
    "padding": (lambda: attend(Q, K, V, mask=padding(keys=REAL)), 3),
    "float": (lambda: attend(Q, K, V, attn_mask=FLOATS), 8),
    "window": (lambda: attend(Q, K, V, mask=causal & window(3, 0)), 3),
    "euclidean": (lambda: attend(Q, K, V, similarity=Euclidean(2.0)), 2),
    "by head": (lambda: attend(Q, K, V, similarity=Euclidean(torch.ones(3))), 5),
    "student": (lambda: attend(Q, K, V, similarity=StudentT()), 2),
    "alpha": (lambda: attend(Q, K, V, normalization=Softmax(0.5)), 3),
    "sinkhorn": (lambda: attend(Q, K, V, normalization=Sinkhorn(2)), 3),
    "sparsemax": (lambda: attend(Q, K, V, normalization=Sparsemax()), 12),
    "entmax": (lambda: attend(Q, K, V, normalization=Entmax(1.3)), 25),
    "top-k": (lambda: attend(Q, K, V, normalization=TopK(3)), 4),
    "bias": (lambda: attend(Q, K, V, attn_mask=0.1 * Q @ K.mT), 5),
    "one query": (lambda: attend(Q[..., :1, :], K, V), 2),
    "entropy": (lambda: Attention(Q, K).entropy(), 3),
    "strongest": (lambda: Attention(Q, K).topk(2).weights, 4),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_reads_few_values_and_none_without_checks(name):
    call, most = CALLS[name]
    count, expected = reads_of(call)
    assert count <= most
    with without_value_checks():
        count, found = reads_of(call)
    assert count == 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_unchecked_nan_key_reaches_the_output():
    bad = K.index_fill(-2, torch.tensor([4]), torch.nan)
    with pytest.raises(InputError, match="NaN"):
        attend(Q, bad, V)
    with without_value_checks():
        assert attend(Q, bad, V).isnan().all()
        with pytest.raises(DtypeError):  # dtypes are still checked
            attend(Q, K.double(), V)
    with pytest.raises(InputError, match="NaN"):  # after the block values are checked again
        attend(Q, bad, V)


def test_after_an_error_within_it_checks_again():
    with pytest.raises(ValueError, match="of one's own"), without_value_checks():
        raise ValueError("of one's own")
    with pytest.raises(InputError):
        attend(Q, K * torch.nan, V)


def test_what_depends_on_values_still_reads_them():
    with without_value_checks():
        assert Attention(Q, Q, Euclidean(4.0)).irreversibility().abs().max() < 1e-3
        with pytest.raises(ConvergenceError):
            attend(Q, K, V, normalization=Sinkhorn(steps=1, tolerance=1e-9))
        cache = KeyCache(Euclidean(2.0))
        cache.append(K, V)
        torch.testing.assert_close(cache.attend(Q), attend(Q, K, V, is_causal=True, similarity=Euclidean(2.0)))

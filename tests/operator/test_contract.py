"""Guarantees for a user's similarity: the precision of q and k, and the pairs for which `dense` is called."""

import pytest
import torch

from limelight import Attention, Cosine, Dot, Entmax, InputError, Similarity, Softmax, Sparsemax, StudentT, TopK
from limelight.similarity import InnerProduct


class Decay(Similarity):
    """A `dense` that depends on positions, which it cannot know for a part of the matrix."""

    def dense(self, q, k):
        return q @ k.mT - 0.1 * torch.arange(k.shape[-2])


class Decline(Similarity):
    """The same for positions of queries."""

    def dense(self, q, k):
        return q @ k.mT - 0.1 * torch.arange(q.shape[-2])[:, None]


class AllAlike(Similarity):
    """A pair's value depends on the other keys."""

    def dense(self, q, k):
        return (q @ k.mT).softmax(-1)


@pytest.mark.parametrize("similarity", [Decay, Decline, AllAlike])
@pytest.mark.parametrize("n", [2, 100, 3000])
def test_a_dense_that_depends_on_more_than_the_pair_is_refused(similarity, n):
    q, k, v = torch.randn(3, n, 8)
    with pytest.raises(InputError, match=r"dense gives a pair alone another value.*define `block.*kernel='reference'"):
        _ = Attention(q, k, similarity()) @ v
    assert (Attention(q, k, similarity(), kernel="reference") @ v).isfinite().all()


def test_a_single_pair_proves_nothing():
    similarity = Decay()
    q, k, v = torch.randn(3, 1, 8)
    _ = Attention(q, k, similarity) @ v
    q, k, v = torch.randn(3, 5, 8)
    with pytest.raises(InputError, match="another value"):
        _ = Attention(q, k, similarity) @ v


@pytest.mark.parametrize("kernel", ["auto", "reference"])
@pytest.mark.parametrize(
    "reshaped",
    [
        lambda beta: beta.sum(-1, keepdim=True),
        lambda beta: beta.sum(-1),
        lambda beta: beta[None, None],
        lambda beta: beta.expand(7, 2, *beta.shape[-2:]),
        lambda beta: torch.cat([beta, beta]),
        lambda beta: beta.tolist(),
    ],
)
def test_dense_of_another_shape_is_refused(reshaped, kernel):
    class Own(Similarity):
        def dense(self, q, k):
            return reshaped(q @ k.mT)

    q, k = torch.randn(2, 6, 4), torch.randn(2, 5, 4)
    for use in (lambda A: A @ torch.randn(2, 5, 3), lambda A: A.entropy(), lambda A: A.dense()):
        with pytest.raises(InputError, match=r"Own.dense must return \(2, \d, \d\) for queries \(2, \d, 4\) and keys"):
            use(Attention(q, k, Own(), kernel=kernel))


def test_dense_without_the_batch_is_the_same_for_all_of_it():
    class Own(Similarity):
        def dense(self, q, k):
            return torch.arange(6.0).diag_embed()[: q.shape[-2], : k.shape[-2]]

    q, k, v = torch.randn(3, 2, 6, 4)
    assert (Attention(q, k, Own(), kernel="reference") @ v).shape == (2, 6, 4)


class Recorded(Similarity):
    """β = ⟨q, k⟩ − |k|²/2, written in the obvious way; it records the dtypes of its arguments."""

    def __init__(self):
        super().__init__()
        self.given = set()

    def dense(self, q, k):
        self.given |= {q.dtype, k.dtype}
        return q @ k.mT - (k.square().sum(-1) / 2)[..., None, :]


class RecordedFactor(Recorded):
    def as_inner_product(self, q, k, real=None):
        self.given |= {q.dtype, k.dtype}
        return InnerProduct(q, k, key_bias=-(k.square().sum(-1) / 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("similarity", [Recorded, RecordedFactor])
def test_it_computes_in_at_least_float32(similarity, kernel, dtype):
    q, k, v = torch.randn(3, 200, 16).to(dtype)
    truth = Recorded().dense(q.double(), k.double()).mul(0.25).softmax(-1) @ v.double()
    mine = similarity()
    out = Attention(q, k, mine, scale=0.25, kernel=kernel) @ v
    assert mine.given == {dtype if dtype == torch.float64 else torch.float32}
    assert out.dtype == dtype
    torch_itself = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, (-(k.double().square().sum(-1) / 8)).to(dtype)[None], scale=0.25
    )
    allowed = 4 * torch.finfo(dtype).eps + 2 * (torch_itself - truth).norm() / truth.norm()
    assert (out - truth).norm() / truth.norm() <= allowed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(1.0), TopK(3), Sparsemax(), Entmax()], ids=repr)
@pytest.mark.parametrize("similarity", [Cosine(), Dot(), StudentT()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
def test_scores_are_rounded_only_at_the_end(similarity, normalization, dtype, kernel):
    """The order of near keys must not change: the selected keys are those of exact scores of the same q and k."""
    q, k, v = (torch.randn(2, 64, 32).to(dtype) for _ in range(3))
    truth = Attention(q.double(), k.double(), similarity, normalization, scale=8.0, kernel="reference") @ v.double()
    out = Attention(q, k, similarity, normalization, scale=8.0, kernel=kernel) @ v
    assert ((out - truth).abs().max() / truth.abs().max()) <= 4 * torch.finfo(dtype).eps

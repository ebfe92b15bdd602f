"""`limelight.testing` accepts everything in the library, and finds each fault of an extension."""

import pytest
import torch

from limelight import (
    Attention,
    Bias,
    Boolean,
    ContractError,
    Dot,
    Euclidean,
    Graph,
    InputError,
    KeyBiased,
    KeyCache,
    Mask,
    RowWise,
    Scaled,
    Similarity,
    SoftCap,
    Softmax,
    StudentT,
    SymmetricSinkhorn,
    causal,
    documents,
    padding,
    window,
)
from limelight.mask import Band
from limelight.similarity import InnerProduct, Parts, Properties, Sum
from limelight.testing import check_mask, check_normalization, check_similarity
from limelight.weights import SoftmaxWeights
from tests.operator.mechanisms import EVERY_NORMALIZATION, EVERY_SIMILARITY, WIDTH

MASKS = [
    causal,
    causal.at(3),
    window(2, 1),
    Band(None, -1),
    ~window(0, 0),
    padding(keys=torch.arange(9) % 4 > 0),
    documents(torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])),
    Boolean(torch.rand(9, 9, generator=torch.Generator().manual_seed(0)) > 0.4),
    Graph(torch.tensor([[0, 1, 2, 3, 8], [1, 2, 3, 8, 0]]), 9),
    causal & window(3, 3) | Boolean((torch.arange(9) == 0)[None]),
]


@pytest.mark.parametrize("name", EVERY_SIMILARITY)
def test_every_similarity_keeps_the_contract(name):
    check_similarity(EVERY_SIMILARITY[name](), WIDTH)


@pytest.mark.parametrize("name", EVERY_NORMALIZATION)
def test_every_normalization_keeps_the_contract(name):
    check_normalization(EVERY_NORMALIZATION[name]())


def test_a_normalization_of_symmetric_scores_keeps_the_contract():
    check_normalization(SymmetricSinkhorn(tolerance=1e-9))


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_every_mask_keeps_the_contract(mask):
    check_mask(mask, 9, 9)


def test_masks_of_more_keys_than_queries():
    check_mask(causal.at(4), 3, 7)
    check_mask(window(2, 0), 8, 5)


class WrongFactor(Dot):
    def as_inner_product(self, q, k, real=None):
        return InnerProduct(q, k, key_bias=0.1 * k[..., 0])


class WrongBlock(Dot):
    @property
    def is_inner_product(self):
        return False

    def parts(self, q, k, real=None):
        return Parts((q,), (k,))

    def block(self, parts, i, j):
        return parts.queries[0] @ parts.keys[0].mT + 0.01 * i[:, None]


class SeesPadding(Similarity):
    def dense(self, q, k):
        return q @ (k / k.abs().amax((-2, -1), keepdim=True)).mT

    def as_inner_product(self, q, k, real=None):
        return InnerProduct(q, k / k.abs().amax((-2, -1), keepdim=True))


class NotSymmetric(Similarity):
    properties = Properties(symmetric=True)

    def dense(self, q, k):
        return q @ k.roll(1, -1).mT


class NotInvariant(Dot):
    properties = Properties(translation_invariant=True)


class NoDistance(Similarity):
    properties = Properties(symmetric=True, metric=True)

    def dense(self, q, k):
        return -torch.cdist(q, k).pow(4)


class NotDefinite(Similarity):
    properties = Properties(symmetric=True, positive_definite=True)

    def dense(self, q, k):
        return torch.cdist(q, k)


class Detached(Dot):
    def as_inner_product(self, q, k, real=None):
        return InnerProduct(q, k.detach())


class WrongForFew(Dot):
    def of_few(self, q, k):
        return 1.1 * self.dense(q, k)


class Unalarmed(Dot):
    def of_few(self, q, k):
        return self.dense(q, k.nan_to_num(0, 0, 0))


class WrongKeyFactors(Euclidean):
    def key_factors(self, k):
        return super().key_factors(2 * k)


class Centers(Euclidean):
    def key_factors(self, k):
        return super().key_factors(k - k.mean(-2, keepdim=True))

    def query_factors(self, q):
        return q


class Rounds(Dot):
    def rounded_inner_product(self, q, k, real=None):
        return InnerProduct((0.9 * q).to(q.dtype) if q.dtype != torch.float64 else q, k)


class Nearest(Euclidean):
    """Overrides `dense`, and nothing else."""

    def dense(self, q, k):
        return 3 * super().dense(q, k) - 1


class Heavier(StudentT):
    def dense(self, q, k):
        return 3 * super().dense(q, k)


class Twice(Sum):
    def dense(self, q, k):
        return 2 * super().dense(q, k)


class TwiceScaled(Scaled):
    def dense(self, q, k):
        return 2 * super().dense(q, k)


class TwiceCapped(SoftCap):
    def dense(self, q, k):
        return 2 * super().dense(q, k)


@pytest.mark.parametrize(
    "similarity",
    [Nearest(), Heavier(), Twice(Dot(), Euclidean()), TwiceScaled(StudentT(), 0.7), TwiceCapped(Dot(), 3.0)],
)
def test_a_class_that_defines_its_values_anew_does_not_compute_its_parent_s(similarity):
    q, k, v = torch.randn(3, 9, 4).double().unbind()
    for n in (1, 9):
        exact = Attention(q[:n], k, similarity, kernel="reference") @ v
        torch.testing.assert_close(Attention(q[:n], k, similarity, kernel="chunked") @ v, exact)
        torch.testing.assert_close(Attention(q[:n], k, similarity) @ v, exact)
    cache = KeyCache(similarity, mask=None)
    cache.append(k, v)
    torch.testing.assert_close(cache.attend(q[:1]), Attention(q[:1], k, similarity, kernel="reference") @ v)


@pytest.mark.parametrize(
    ("similarity", "says"),
    [
        (WrongFactor(), "WrongFactor.as_inner_product, put together"),
        (WrongBlock(), "WrongBlock.block for rows 0 to 11"),
        (SeesPadding(), "SeesPadding: what padding keys hold changed the output"),
        (NotSymmetric(), "declares itself symmetric"),
        (NotInvariant(), "declares itself translation invariant"),
        (NoDistance(), "it violates the triangle inequality"),
        (NotDefinite(), "declares exp β positive definite, but it has the eigenvalue −?-?"),
        (Detached(), "the gradient of k on the fused kernel"),
        (Rounds(), "Rounds in torch.float16"),
        (WrongForFew(), "WrongForFew.of_few"),
        (Unalarmed(), "Unalarmed.of_few gave finite scores for a key that holds nan"),
        (WrongKeyFactors(), "WrongKeyFactors.key_factors, query_factors and of_product, put together"),
        (Centers(), "Centers.key_factors, query_factors and"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Similarity) else "",
)
def test_a_similarity_that_breaks_the_contract_is_found(similarity, says):
    with pytest.raises(ContractError, match=says):
        check_similarity(similarity, 4)


class Secretly(KeyBiased):
    uses_column_sums = False

    def key_bias(self, scores):
        return -scores.T.logsumexp()


class NotLinear(Softmax):
    class Weights(SoftmaxWeights):
        def apply(self, v):
            return super().apply(v) + 0.1

    def forward(self, scores):
        return self.Weights(scores)


class FillsEmptyRows(RowWise):
    def thresholds(self, s):
        return torch.zeros_like(s[..., :1])

    def weights(self, s, t):
        return (s - t).sigmoid() + 0.01


@pytest.mark.parametrize(
    ("normalization", "says"),
    [
        (Secretly(), "Secretly.uses_column_sums is False, but"),
        (NotLinear(), "NotLinear"),
        (FillsEmptyRows(), "FillsEmptyRows: a query that sees no key must have weights of zero"),
    ],
    ids=lambda x: "" if isinstance(x, str) else type(x).__name__,
)
def test_a_normalization_that_breaks_the_contract_is_found(normalization, says):
    with pytest.raises(ContractError, match=says):
        check_normalization(normalization)


class PlusOne(RowWise):
    """A softmax with a one added to its denominator."""

    def thresholds(self, s):
        return torch.cat([s, torch.zeros_like(s[..., :1])], -1).logsumexp(-1, keepdim=True)

    def weights(self, s, t):
        return (s - t).exp()


def test_a_users_normalization_keeps_the_contract():
    check_normalization(PlusOne())


class Dilated(Mask):
    """Every other key: j − i is even."""

    def block(self, rows, cols, device):
        i = torch.arange(rows.start, rows.stop, device=device)[:, None]
        return (torch.arange(cols.start, cols.stop, device=device) - i) % 2 == 0

    @property
    def T(self):
        return self


class NarrowSpan(Dilated):
    def span(self, rows, m):
        return slice(max(rows.start - 1, 0), min(rows.stop + 1, m))


class Untransposed(Band):
    def __init__(self):
        super().__init__(None, 0)

    @property
    def T(self):
        return self


class ByRow(Dilated):
    def block(self, rows, cols, device):
        return super().block(slice(0, rows.stop - rows.start), cols, device)


class Leaks(Band):
    def __init__(self):
        super().__init__(None, 0)

    def is_causal(self, n, m, device):
        return False


class Boasts(Dilated):
    def hides_ahead_of(self, offset):
        return offset > 2


def test_a_users_mask_keeps_the_contract():
    check_mask(Dilated(), 9, 8)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (NarrowSpan(), "NarrowSpan.span of the queries 0 to 1 is 0 to 2"),
        (Untransposed(), "Untransposed.T does not have"),
        (ByRow(), "ByRow.block for the queries 1 to 2"),
        (Leaks(), "Leaks.is_causal is False, but"),
        (Boasts(), r"Boasts.hides_ahead_of\(3\) is True"),
    ],
    ids=lambda x: "" if isinstance(x, str) else type(x).__name__,
)
def test_a_mask_that_breaks_the_contract_is_found(mask, says):
    with pytest.raises(ContractError, match=says):
        check_mask(mask)


def test_the_user_s_own_object_stays_as_it_is():
    similarity = Euclidean(torch.nn.Parameter(torch.tensor(2.0)))
    check_similarity(similarity, 3)
    assert similarity.bandwidth.dtype == torch.float32
    assert similarity.bandwidth.grad is None


def test_something_else_than_an_extension_is_refused():
    with pytest.raises(InputError, match="similarity expects a Similarity object, got the class Dot; write"):
        check_similarity(Dot)
    with pytest.raises(InputError, match="got 'softmax'"):
        check_normalization("softmax")
    with pytest.raises(InputError, match="a bias for 11 queries and 14 keys must have the shape"):
        check_similarity(Bias(torch.zeros(2, 2)))

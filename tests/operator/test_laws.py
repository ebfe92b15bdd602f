"""Every law over every similarity × normalization × kernel, and against the mechanism that breaks it."""

import pytest
import torch

from limelight import Attention, Cosine, Dot, Euclidean, Sinkhorn, Softmax
from tests.operator import laws
from tests.operator.mechanisms import NORMALIZATIONS, SIMILARITIES

KERNELS = ["reference", "fused"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("law", laws.FOR_ALL, ids=lambda law: law.__name__)
def test_law_of_every_mechanism(law, similarity, normalization, kernel):
    sim, norm = SIMILARITIES[similarity].make(), NORMALIZATIONS[normalization].make()
    law(lambda q, k, mask=None, **options: Attention(q, k, sim, norm, mask, kernel=kernel, **options))


@pytest.mark.parametrize("law", laws.FOR_ALL | laws.FOR_SOME, ids=lambda law: law.__name__)
def test_law_rejects_a_broken_mechanism(law):
    with pytest.raises(AssertionError):
        law((laws.FOR_ALL | laws.FOR_SOME)[law])


def by(similarity=None, normalization=None, kernel="fused"):
    sim = SIMILARITIES["dot"].make() if similarity is None else similarity
    norm = Softmax() if normalization is None else normalization
    return lambda q, k, mask=None, **options: Attention(q, k, sim, norm, mask, kernel=kernel, **options)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_doubly_normalized_attention_does_not_explain_away(similarity, kernel):
    laws.no_key_is_explained_away(by(SIMILARITIES[similarity].make(), Softmax(1.0), kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_sinkhorn_tends_to_equal_columns(similarity, kernel):
    laws.columns_sum_to_n_over_m(by(SIMILARITIES[similarity].make(), Sinkhorn(60), kernel))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_invariances(normalization, kernel):
    norm = NORMALIZATIONS[normalization].make()
    for case in SIMILARITIES.values():
        if case.translation_invariant:
            laws.a_common_translation_changes_nothing(by(case.make(), norm, kernel))
        if case.length_invariant:
            laws.lengths_change_nothing(by(case.make(), norm, kernel))


@pytest.mark.parametrize("similarity", [name for name, case in SIMILARITIES.items() if case.distance])
def test_distances(similarity):
    laws.root_of_minus_two_beta_is_a_distance(by(SIMILARITIES[similarity].make(), kernel="reference"))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_one_sinkhorn_step_is_double_normalization(similarity, kernel):
    (q, k), v, sim = laws.operands(), laws.values(), SIMILARITIES[similarity].make()
    once, double = (Attention(q, k, sim, norm, kernel=kernel) for norm in (Sinkhorn(1), Softmax(1.0)))
    torch.testing.assert_close(once @ v, double @ v)


@pytest.mark.parametrize("kernel", KERNELS)
def test_euclidean_is_dot_where_key_norms_are_equal_and_only_there(kernel):
    (q, k), v = laws.operands(), laws.values()
    on_sphere = k / k.norm(dim=-1, keepdim=True)
    dot, euclidean = (Attention(q, on_sphere, sim, scale=0.7, kernel=kernel) @ v for sim in (Dot(), Euclidean()))
    torch.testing.assert_close(dot, euclidean)
    dot, euclidean = (Attention(q, k, sim, scale=0.7, kernel=kernel) @ v for sim in (Dot(), Euclidean()))
    assert (dot - euclidean).abs().max() > 0.1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_zero_vector_is_at_right_angles_to_everything(kernel):
    (q, k), v = laws.operands(), laws.values()
    q[:, 0], k[:, 3] = 0, 0
    q, k = q.requires_grad_(), k.requires_grad_()
    out = Attention(q, k, Cosine(), kernel=kernel) @ v
    torch.testing.assert_close(out[:, 0], v.mean(-2))
    dq, dk = torch.autograd.grad(out.square().sum(), (q, k))
    assert (dq[:, 0] == 0).all()
    assert (dk[:, 3] == 0).all()
    assert dq.isfinite().all()
    assert dk.isfinite().all()

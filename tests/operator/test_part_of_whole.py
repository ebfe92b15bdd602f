"""Gradients of attention for some of the keys, from the output and the log-normalizer of all keys."""

import pytest
import torch

from limelight import Attention, Dot, Euclidean, InputError, Softmax, Sparsemax, StudentT, TopK, causal, padding

N, M, CUT = 9, 13, 5
REAL = torch.tensor([True] * 4 + [False] * 3 + [True] * 6)
MASKS = {"none": lambda keys: None, "padding": lambda keys: padding(keys=REAL[keys])}


def inputs(away=0.0):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, length, 8, generator=generator, dtype=torch.float64) for length in (N, M, M))
    return [x.requires_grad_() for x in (q + away, k + away, v)]


def gradients_of_whole_and_parts(similarity, mask_of, reads, away=0.0):
    """(gradients from one pass over all keys, gradients from two passes over some of them)."""
    inputs_, temperature = inputs(away), Softmax(temperature=0.7)
    q, k, v = inputs_
    whole = Attention(q, k, similarity, temperature, mask_of(slice(0, M))).apply_with_logsumexp(v)
    slopes = [torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype) for x in whole]
    out, lse = (x.detach() for x in whole)

    def gradients(results):
        chosen, given = ([each[i] for i in reads] for each in (results, slopes))
        found = torch.autograd.grad(chosen, inputs_, given, allow_unused=True, retain_graph=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs_, found, strict=True)]

    total = [torch.zeros_like(x) for x in inputs_]
    for keys in (slice(0, CUT), slice(CUT, M)):
        part = Attention(q, k[:, keys], similarity, temperature, mask_of(keys)).apply_within(v[:, keys], out, lse)
        assert torch.equal(part[0], out)
        assert torch.equal(part[1], lse)
        total = [a + b for a, b in zip(total, gradients(part), strict=True)]
    return gradients(whole), total


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("reads", [(0,), (1,), (0, 1)], ids=["output", "normalizer", "both"])
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5), StudentT()], ids=repr)
def test_parts_add_up_to_the_gradients_of_the_whole(similarity, reads, mask):
    for a, b in zip(*gradients_of_whole_and_parts(similarity, MASKS[mask], reads), strict=True):
        assert torch.allclose(a, b, atol=1e-13, rtol=1e-12)


def test_points_far_from_the_origin_have_other_terms_of_the_query_in_each_part():
    for a, b in zip(*gradients_of_whole_and_parts(Euclidean(2.0), MASKS["none"], (0, 1), away=300.0), strict=True):
        assert torch.allclose(a, b, atol=1e-11, rtol=1e-10)


def test_a_query_that_sees_no_key_has_no_gradient():
    q, k, v = inputs()
    A = Attention(q, k, mask=padding(keys=torch.zeros(M, dtype=torch.bool)))
    out, lse = (x.detach() for x in A.apply_with_logsumexp(v))
    for gradient in torch.autograd.grad(A.apply_within(v, out, lse)[0].sum(), (q, k, v)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_hidden_values_that_are_not_finite_have_no_effect():
    q, k, v = inputs()
    bad, A = v.detach().clone(), Attention(q, k, mask=padding(keys=REAL))
    bad[:, ~REAL] = torch.nan
    out, lse = (x.detach() for x in A.apply_with_logsumexp(v))
    found = [torch.autograd.grad(A.apply_within(x, out, lse)[0].sum(), (q, k), retain_graph=True) for x in (v, bad)]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("normalization", [Sparsemax(), TopK(2)], ids=repr)
def test_weights_that_are_no_softmax_are_refused(normalization):
    q, k, v = inputs()
    with pytest.raises(InputError, match="log-normalizer"):
        Attention(q, k, Dot(), normalization).apply_within(v, v.new_zeros(2, N, 8), v.new_zeros(2, N))


def test_a_second_derivative_is_refused():
    q, k, v = inputs()
    A = Attention(q, k, Euclidean(1.0), mask=causal)
    out, lse = (x.detach() for x in A.apply_with_logsumexp(v))
    (first,) = torch.autograd.grad(A.apply_within(v, out, lse)[0].square().sum(), k, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()

"""Soft lookup: the targets are those of attention written out, and the weights are as sharp as is said."""

import pytest
import torch

from limelight.data.soft_lookup import SHARPNESS, lookup_attention, soft_lookup
from limelight.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_token_takes_the_mean_of_the_values_by_the_softmax_of_products():
    x, y = soft_lookup(50, 4, seeded())
    q, k, v = x.unbind(-1)
    weights = (SHARPNESS * q[:, :, None] * k[:, None, :]).softmax(-1)
    torch.testing.assert_close(y, (weights * v[:, None, :]).sum(-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(lookup_attention(x).dense(), weights, atol=1e-5, rtol=1e-4)


def test_a_high_question_finds_the_value_of_the_largest_key_and_a_low_one_that_of_the_smallest():
    x = torch.tensor([[[9.0, 0.0, 1.0], [-9.0, 2.0, 2.0], [0.0, -2.0, 3.0]]])
    found = (lookup_attention(x) @ x[..., 2:])[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([2.0, 3.0, 2.0]))


def test_scores_have_the_standard_deviation_that_is_given():
    x, _ = soft_lookup(20_000, 2, seeded())
    scores = SHARPNESS * x[:, 0, 0] * x[:, 1, 1]
    assert float(scores.std()) == pytest.approx(SHARPNESS, rel=0.05)


@pytest.mark.parametrize(("n", "tokens"), [(-1, 4), (5, 0)])
def test_sizes_that_make_no_sense_are_refused(n, tokens):
    with pytest.raises(InputError, match="soft_lookup expects"):
        soft_lookup(n, tokens, seeded())


def test_no_samples_are_an_empty_answer():
    assert soft_lookup(0, 4, seeded())[1].shape == (0, 4)

"""What is checked of signatures while testing, and what is not."""

import pytest
import torch
from jaxtyping import TypeCheckError

from limelight import Attention
from tests.checked import outermost


def test_a_kernel_that_is_given_another_shape_raises():
    scores = Attention(*torch.randn(2, 5, 3))._scores()
    with pytest.raises(TypeCheckError, match="softmax"):
        scores.softmax(torch.ones(5))


def test_functions_within_functions_are_left_as_they_are():
    def inner(x: int) -> int:
        return x

    assert outermost(inner) is inner

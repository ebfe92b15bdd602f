"""Which parts of signatures are checked while testing, and which are not."""

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

from limelight import Attention
from limelight.kernels import fused, scores
from tests.checked import checked, install


def test_a_kernel_that_is_given_another_shape_raises():
    operator = Attention(*torch.randn(2, 5, 3))._scores()
    with pytest.raises(BeartypeCallHintViolation, match="softmax"):
        operator.softmax(torch.ones(5))
    with pytest.raises(BeartypeCallHintViolation, match="entropy_of"):
        scores.entropy_of(torch.ones(5))


def test_functions_without_shapes_are_not_changed():
    def plain(x: int) -> int:
        return x

    def shaped(x: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        return x

    assert checked(plain) is plain
    assert checked(shaped) is not shaped
    with pytest.raises(BeartypeCallHintViolation):
        checked(shaped)(torch.ones(2))
    with pytest.raises(BeartypeCallHintViolation):
        checked(staticmethod(shaped)).__func__(torch.ones(2))


def test_it_is_installed_before_the_package_is_imported():
    assert fused.__name__ == "limelight.kernels.fused"
    with pytest.raises(RuntimeError, match="imported before"):
        install("limelight.kernels")

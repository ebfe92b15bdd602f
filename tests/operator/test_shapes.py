"""Shapes broadcast as in torch, also with sizes of zero."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limelight.shapes import broadcast_shapes

SHAPES = st.lists(st.lists(st.sampled_from([0, 1, 1, 2, 3]), max_size=4).map(tuple), min_size=1, max_size=4)


@given(SHAPES)
def test_the_common_shape_is_torch_s(shapes):
    try:
        expected = tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        with pytest.raises(RuntimeError, match="do not broadcast"):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == expected

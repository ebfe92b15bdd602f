"""A bias of float32 as columns of q and k, for kernels on a GPU that take a bias in half precision at most.

In half precision a bias would be rounded to 8 or 11 bits. So it is split into a sum of three numbers of that precision,
each the rounded remainder after those before it, in three columns of one factor beside columns of a constant c in the
other: c · (b₁ + b₂ + b₃) = b to float32's 24 bits. For float32 one column is enough.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def column_count(dtype: torch.dtype) -> int:
    """How many columns of this dtype hold a bias of float32."""
    return 1 if dtype == torch.float32 else 3


def column_constant(dtype: torch.dtype) -> float:
    """The constant c beside the columns."""
    return 16.0 if dtype == torch.float16 else 1.0  # with 1, float16 would overflow at a bias of 65504


def bias_columns(bias: Float[Tensor, "*rows"], dtype: torch.dtype) -> Float[Tensor, "*rows columns"]:
    """Columns of this dtype whose sum times c is the bias."""
    rest, columns = bias / column_constant(dtype), []
    for _ in range(column_count(dtype)):
        columns.append(rest.to(dtype))
        rest = rest - columns[-1]
    return torch.stack(columns, -1)

"""How is the operator computed? `reference` is the specification, `fused` the fast path."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from limelight.errors import KernelError, UnknownNameError
from limelight.kernels.flash import unsupported
from limelight.kernels.fused import factored_scores
from limelight.kernels.reference import DenseScores, dense_scores
from limelight.kernels.scores import Scores
from limelight.mask import Mask
from limelight.similarity import Similarity

Kernel = Literal["auto", "fused", "reference"]

__all__ = ["DenseScores", "Kernel", "Scores", "choose", "compute", "dense_scores"]


def choose(kernel: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel to run: the one asked for, or `KernelError`; for "auto" the fastest that can."""
    if kernel not in get_args(Kernel):
        raise UnknownNameError("kernel", kernel, get_args(Kernel))
    reason = unsupported(device, dtype)
    if kernel == "fused" and reason:
        raise KernelError(f"kernel='fused' cannot serve this call: {reason}; use kernel='auto' or 'reference'")
    if kernel == "auto":
        return "reference" if reason else "fused"
    return cast(Kernel, kernel)


def compute(
    kernel: Kernel, q: Tensor, k: Tensor, similarity: Similarity, scale: float | Tensor, mask: Mask | None
) -> Scores:
    """The scores scale · β(q, k), masked, held the way the kernel holds them."""
    hold = factored_scores if kernel == "fused" else dense_scores
    return hold(q, k, similarity, scale, mask)

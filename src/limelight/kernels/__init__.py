"""The kernels, which compute the operator.

`reference` is the specification, and stores the matrix. `fused` runs on torch's fused kernels; it needs a similarity
that is an inner product plus two terms, and a normalization that is a row softmax. `chunked` takes any of them, a few
rows at a time, and computes these again in the backward pass. `sparse` computes one score for each edge of a graph.
`flex` compiles scores that are a function of an inner product and of positions for a GPU, where a caller names it.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from limelight.errors import KernelError, UnknownNameError
from limelight.heads import learns
from limelight.kernels.backends import unsupported
from limelight.kernels.chunked import chunked_scores
from limelight.kernels.flex import flex_scores, reason_not_flex
from limelight.kernels.fused import inner_product_scores
from limelight.kernels.reference import DenseScores, dense_scores
from limelight.kernels.scores import Scores
from limelight.kernels.sparse import edge_scores
from limelight.mask import Mask, edges_of
from limelight.similarity import Similarity
from limelight.tracing import in_transform

Kernel = Literal["auto", "fused", "chunked", "flex", "sparse", "reference"]
_NAMES = get_args(Kernel)

__all__ = ["DenseScores", "Kernel", "Scores", "choose", "compute", "dense_scores"]


def choose(
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
    similarity: Similarity,
    fused_normalization: str | None,
    mask: Mask | None = None,
    scale: float | Tensor = 1.0,
) -> Kernel:
    """The kernel to run: the named one, or `KernelError` if it cannot serve; for "auto" the fastest that can.

    `fused_normalization` says why the normalization cannot be fused, or is None if it can. Inside a transform of
    torch.func, in forward-mode differentiation and for meta tensors "auto" is the reference, which is made of torch's
    own operations alone.
    """
    if kernel not in _NAMES:
        raise UnknownNameError("kernel", kernel, _NAMES)
    if kernel in ("fused", "chunked", "flex") and in_transform():
        raise KernelError(
            f"kernel={kernel!r} does not support torch.func and forward-mode differentiation; use kernel='auto' there, "
            "which stores the matrix"
        )
    reason = fused_normalization or unsupported(device, dtype)
    if not similarity.is_inner_product:
        reason = f"{type(similarity).__name__} is not an inner product plus two terms"
    elif similarity.has_pair_bias and device.type != "cpu":
        reason = f"on {device.type} it takes no bias of pairs"
    elif similarity.has_pair_bias and learns(scale):
        reason = "it has no gradient for a bias of pairs, and here its scale learns"
    if kernel == "fused" and reason:
        raise KernelError(f"kernel='fused' cannot serve this call: {reason}; use kernel='auto' or 'chunked'")
    if kernel == "flex" and (why := reason_not_flex(device, dtype, similarity)):
        raise KernelError(f"kernel='flex' cannot serve this call: {why}; use kernel='auto'")
    if kernel == "sparse" or (kernel == "auto" and mask is not None):
        if edges_of(mask) is not None:
            return "sparse"
        if kernel == "sparse":
            raise KernelError(
                "kernel='sparse' needs a Graph as its mask, alone or joined by & with other masks; use kernel='auto'"
            )
    if kernel == "auto":
        return "reference" if in_transform() or device.type == "meta" else "chunked" if reason else "fused"
    return cast(Kernel, kernel)


def compute(
    kernel: Kernel, q: Tensor, k: Tensor, similarity: Similarity, scale: float | Tensor, mask: Mask | None
) -> Scores:
    """The scores scale · β(q, k), masked, as the `Scores` of this kernel."""
    if kernel == "reference":
        return dense_scores(q, k, similarity, scale, mask)
    if kernel == "sparse":
        edges = edges_of(mask)
        assert edges is not None
        return edge_scores(q, k, similarity, scale, edges)
    hold = {"fused": inner_product_scores, "flex": flex_scores}.get(kernel, chunked_scores)
    return hold(q, k, similarity, scale, mask)

"""Scores that are not an inner product: computed one rectangle at a time, forward and again backward.

    s_ij = scale · β(q_i, k_j) + a_i + b_j,  −∞ where masked

for any similarity that can compute β on a rectangle. Memory is linear in n and m: a rectangle is as
large as fits in a core's cache, and the backward pass computes it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.kernels import online_softmax
from limelight.kernels.rows import by_rows
from limelight.kernels.scores import Scores, entropy_of, with_terms, zero_neg_inf
from limelight.mask import Mask, real_keys
from limelight.shapes import broadcast_shapes
from limelight.similarity import Parts, Similarity, upcast, upcast_pair


@dataclass(frozen=True)
class ChunkedScores(Scores):
    """s, represented by the parts from which its rectangles are computed; `swapped` if the rows are the keys."""

    similarity: Similarity
    parts: Parts
    scale: float | Float[Tensor, "*#batch 1 1"]
    mask: Mask | None
    rows: int
    cols: int
    swapped: bool = False
    row_bias: Float[Tensor, "*#batch n"] | None = None
    col_bias: Float[Tensor, "*#batch m"] | None = None

    @property
    def T(self) -> ChunkedScores:
        mask = None if self.mask is None else self.mask.T
        return replace(
            self, mask=mask, rows=self.cols, cols=self.rows, swapped=not self.swapped,
            row_bias=self.col_bias, col_bias=self.row_bias,
        )  # fmt: skip

    def add_key_bias(self, bias: Float[Tensor, "*#batch m"]) -> ChunkedScores:
        return replace(self, col_bias=bias if self.col_bias is None else self.col_bias + bias)

    def add_constant(self, constant: Float[Tensor, "*#batch"]) -> ChunkedScores:
        shift = constant[..., None].expand(*constant.shape, self.rows)
        return replace(self, row_bias=shift if self.row_bias is None else self.row_bias + shift)

    def remove_shift(self) -> tuple[ChunkedScores, Float[Tensor, "*#batch"]]:
        return self, torch.zeros((), dtype=self._dtype, device=self._device)  # similarities subtract means themselves

    def log_softmax(self) -> ChunkedScores:
        return replace(self, row_bias=-zero_neg_inf(replace(self, row_bias=None).logsumexp()))

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        return self.reduce(torch.zeros(self.cols, 0, dtype=self._dtype, device=self._device))[1]

    def reduce(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        if torch.compiler.is_compiling():  # the compiler cannot trace autograd within a backward pass
            return self.reduce_by_rows(v)
        # A bias of the row is left out of the walk: softmax_j(s_ij + a_i) = softmax_j(s_ij), and the log-sum-exp is
        # that of s_ij plus a_i, which is added at the end. A bias of the column stays, since it changes the weights.
        batch = broadcast_shapes(self.batch, v.shape[:-2])
        walk = online_softmax.Walk(
            self.similarity, self.parts, self.swapped, self.mask, self.rows, self.cols, batch,
            self.similarity.coefficient * (1.0 if isinstance(self.scale, Tensor) else self.scale),
            replace(self, row_bias=None)._gradients_again,
        )  # fmt: skip
        out, lse = walk.reduce(v, self.col_bias, self.scale if isinstance(self.scale, Tensor) else None)
        return out, lse if self.row_bias is None else lse + self.row_bias

    def _gradients_again(
        self,
        v: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        tensors: list[Tensor],
        dout: Tensor | None,
        dlse: Tensor | None,
    ) -> list[Tensor | None]:
        """The gradients of `reduce` for v, bias, scale, parts and parameters, in a differentiable form."""
        # The hand-written backward pass cannot be differentiated. If that is needed, the same gradients are computed
        # from the entries of some rows at a time (`rows.gradients_by_rows`), with operations that autograd can
        # differentiate.
        given = iter(tensors)
        parts = self.parts.map(*(3 * [lambda _: next(given)]))
        own = replace(self, parts=parts, scale=self.scale if scale is None else scale, col_bias=bias)
        found = iter(own.gradients_by_rows(v, dout, dlse))  # for the tensors of the fields, then v, then the parameters
        dtensors = [next(found) if x.is_floating_point() else None for x in tensors]
        dscale = None if scale is None else next(found)
        dbias = None if bias is None else next(found)
        return [next(found), dbias, dscale, *dtensors, *found]

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        return by_rows(lambda own, rows: entropy_of(own.block(rows)), self, self.rows, self.entries_per_row)

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        s = online_softmax.beta(self.similarity, self.parts, self.swapped, rows, slice(0, self.cols))
        factor = self.scale * self.similarity.coefficient
        if isinstance(factor, Tensor) or factor != 1:
            s = s * factor
        s = with_terms(s, rows, self.row_bias, self.col_bias, self.mask)
        return s.expand(*self.batch, *s.shape[-2:])

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch, self.rows, self.cols)

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch dimensions of the scores."""
        shapes = [tensor.shape[:-2] for tensor in self.parts.tensors()]
        shapes += [term.shape[:-1] for term in (self.row_bias, self.col_bias) if term is not None]
        shapes += [self.scale.shape[:-2]] if isinstance(self.scale, Tensor) else []
        return broadcast_shapes((), *shapes, () if self.mask is None else self.mask.batch_shape)

    @property
    def pair_size(self) -> int:
        return self.similarity.pair_size

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parts.tensors()).dtype

    @property
    def _device(self) -> torch.device:
        return next(self.parts.tensors()).device


def chunked_scores(
    q: Float[Tensor, "*#batch n d"],
    k: Float[Tensor, "*#batch m e"],
    similarity: Similarity,
    scale: float | Tensor,
    mask: Mask | None,
) -> ChunkedScores:
    """scale · β(q, k), to be computed by rectangles."""
    # Keys that are padding may hold anything, NaN too. A mask sets their scores to −∞ and so their weights to 0, but in
    # the gradient of a query, Σ_j dS_ij k_j, a weight of 0 times NaN would be NaN. So they are set to 0 first.
    real = real_keys(mask)
    kept = k if real is None else torch.where(real[..., None], k, 0)
    parts = similarity.parts(*upcast_pair(q, kept), real)
    if _is_one_product(similarity) and not isinstance(scale, Tensor) and scale != 0:
        (left,) = parts.queries
        parts, scale = replace(parts, queries=(scale * left,)), 1.0  # there are fewer queries than pairs
    if not isinstance(scale, Tensor) and scale == 0:
        scale = torch.zeros((), device=q.device)  # as a tensor, which multiplies β before anything is masked
    if isinstance(scale, Tensor):
        scale = scale.to(upcast(q).dtype).reshape(scale.shape or (1, 1))
    return ChunkedScores(similarity, parts, scale, mask, q.shape[-2], k.shape[-2])


def _is_one_product(similarity: Similarity) -> bool:
    """True if β is the product of its parts, as in the base class."""
    kind = type(similarity)
    own = kind.parts is Similarity.parts and kind.block is Similarity.block
    return own and similarity.is_inner_product and not similarity.has_pair_bias

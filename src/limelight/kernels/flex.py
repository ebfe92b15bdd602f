"""Scores that are a function of an inner product and of positions, on torch's FlexAttention, compiled for a GPU.

    s_ij = scale · f(⟨q_i, k_j⟩ + a_i + b_j, i, j) + c_j,  −∞ where masked

FlexAttention (2412.05496) puts a function of single scores into a kernel like FlashAttention's. Averages and
log-sum-exps of these scores, and their derivatives, come from it; single entries are computed as by the chunked kernel.
On an H200 in bfloat16, ALiBi takes twice as long as torch's attention, and 32 times as long on the chunked kernel. The
price is a compiler: the first call of each kind and shape takes some ten seconds, and there are no second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, reduce
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import BlockMask

from limelight.errors import KernelError
from limelight.kernels.backends.bias_columns import bias_columns, column_constant, column_count
from limelight.kernels.backends.tile import pad, rounded_up
from limelight.kernels.chunked import ChunkedScores, chunked_scores
from limelight.mask import Band, Mask, Padding, conjuncts, real_keys
from limelight.shapes import broadcast_shapes
from limelight.similarity import Parts, Similarity  # noqa: F401 (the annotation of an inherited field names Parts)
from limelight.similarity.forms import PairFunction

_DEVICES = ("cuda",)
_DTYPES = (torch.bfloat16, torch.float16)  # in float32 it takes many times as long as the chunked kernel
_MULTIPLE = 16  # the kernel takes no narrower tensors

_MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (b, h, row, column) ↦ True if the pair is not masked


def reason_not_flex(device: torch.device, dtype: torch.dtype, similarity: Similarity) -> str | None:
    """Why FlexAttention cannot compute these scores, or None if it can."""
    if device.type not in _DEVICES:
        return f"it runs on {' and '.join(_DEVICES)}, not on {device.type}, where FlexAttention has no derivative"
    if dtype not in _DTYPES:
        return f"it takes {', '.join(map(str, _DTYPES))}, not {dtype}"
    if not hasattr(flex_attention, "AuxRequest"):
        return f"torch {torch.__version__} has no AuxRequest, by which FlexAttention returns a log-sum-exp"
    if not similarity.has_pair_function:
        return f"{type(similarity).__name__} is not a function of an inner product and of positions"
    return None


_NOTHING = PairFunction(None)


@dataclass(frozen=True)
class FlexScores(ChunkedScores):
    """The scores of the chunked kernel, and the function of pairs by which FlexAttention computes them."""

    function: PairFunction = _NOTHING
    compute_dtype: torch.dtype = torch.float32  # the dtype of queries and keys, in which the kernel computes

    def reduce(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        # A compiler that is compiling already cannot be called. And every pair would add its part of a learned table's
        # gradient to the table, one after the other: on an H200 that takes seven times as long as the chunked kernel.
        if torch.compiler.is_compiling() or self._learns_a_table:
            return super().reduce(v)
        batch = _Batch(broadcast_shapes(self.batch, v.shape[:-2]))
        left, right = self._factors(batch)
        values = F.pad(batch.merge(v), (0, rounded_up(v.shape[-1], _MULTIPLE) - v.shape[-1]))
        out, lse = _attention(left, right, values.to(self.compute_dtype), self._score_mod(batch), self._block_mask())
        out, lse = (x.reshape(*batch.shape, *x.shape[2:]) for x in (out[..., : v.shape[-1]].to(v.dtype), lse))
        return out, lse if self.row_bias is None else lse + self.row_bias

    @property
    def _learns_a_table(self) -> bool:
        return torch.is_grad_enabled() and any(x.requires_grad and x.shape[-1] > 1 for x in self.function.shared)

    def _factors(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """What the rows and the columns have an inner product of: that of the function's factors, with its biases."""
        n, m = (self.cols, self.rows) if self.swapped else (self.rows, self.cols)
        factors = self.function.factors
        if factors is None:
            nothing = torch.zeros((), dtype=self.compute_dtype, device=self._device)
            left, right = (batch.merge(nothing.expand(length, _MULTIPLE)) for length in (n, m))
        else:
            a, b = (None if x is None else batch.merge_rows(x) for x in (factors.query_bias, factors.key_bias))
            q, k = (batch.merge(x).to(self.compute_dtype) for x in (factors.q, factors.k))
            left, right = _Columns.apply(q, k, a, b)  # type: ignore[no-untyped-call]
        return (right, left) if self.swapped else (left, right)

    def _score_mod(self, batch: _Batch) -> Callable[..., Tensor]:
        """The score of one pair, as FlexAttention wants it: a function of ⟨q, k⟩, batch, head, row and column."""
        of, shared = self.function.of, [batch.merge_rows(x[..., 0, :]) for x in self.function.shared]
        shared = [x[..., 0] if x.shape[-1] == 1 else x for x in shared]
        bias = None if self.col_bias is None else batch.merge_rows(self.col_bias)
        allowed, swapped, has_product = self._mask_mod(batch), self.swapped, self.function.factors is not None

        def score_mod(s: Tensor, b: Tensor, h: Tensor, row: Tensor, column: Tensor) -> Tensor:
            def read(t: int, c: Tensor | None = None) -> Tensor:
                return shared[t][b, h] if c is None else shared[t][b, h, c]

            i, j = (column, row) if swapped else (row, column)
            s = of(s if has_product else torch.zeros_like(s), i, j, read)
            if bias is not None:
                s = s + bias[b, h, column]
            return s if allowed is None else torch.where(allowed(b, h, row, column), s, float("-inf"))

        return score_mod

    def _mask_mod(self, batch: _Batch) -> _MaskMod | None:
        """The masks other than bands, which the score itself obeys."""
        parts = [part for part in conjuncts(self.mask) if not isinstance(part, Band)]
        return reduce(_both, [self._mask_mod_of(part, batch) for part in parts]) if parts else None

    def _mask_mod_of(self, mask: Mask, batch: _Batch) -> _MaskMod:
        if isinstance(mask, Padding):
            rows, columns = (None if x is None else batch.merge_rows(x) for x in (mask.queries, mask.keys))
            if columns is None:
                assert rows is not None
                return lambda b, h, row, column: rows[b, h, row]
            if rows is None:
                return lambda b, h, row, column: columns[b, h, column]
            return lambda b, h, row, column: rows[b, h, row] & columns[b, h, column]
        allowed = mask.block(slice(0, self.rows), slice(0, self.cols), self._device)
        if allowed.ndim == 2:
            return lambda b, h, row, column: allowed[row, column]
        allowed = batch.merge(allowed)
        return lambda b, h, row, column: allowed[b, h, row, column]

    def _block_mask(self) -> BlockMask | None:
        """The bands of the mask, by which blocks that are hidden as a whole are not computed."""
        bands = [part for part in conjuncts(self.mask) if isinstance(part, Band)]
        if not bands:
            return None
        before = [band.before for band in bands if band.before is not None]
        after = [band.after for band in bands if band.after is not None]
        return _band(min(before, default=None), min(after, default=None), self.rows, self.cols, self._device)


def flex_scores(
    q: Float[Tensor, "*#batch n d"],
    k: Float[Tensor, "*#batch m d"],
    similarity: Similarity,
    scale: float | Tensor,
    mask: Mask | None,
) -> FlexScores:
    """scale · β(q, k), for FlexAttention."""
    chunked = chunked_scores(q, k, similarity, scale, mask)
    real = real_keys(mask)
    kept = k if real is None else torch.where(real[..., None], k, 0)
    function = similarity.pair_function(q, kept, real).times(scale)
    own = {each.name: getattr(chunked, each.name) for each in fields(chunked)}
    return FlexScores(**own, function=function, compute_dtype=q.dtype)


@dataclass(frozen=True)
class _Batch:
    """Any batch dimensions as the two, batch and heads, that FlexAttention has."""

    shape: tuple[int, ...]

    def merge(self, x: Tensor) -> Tensor:
        """x (*#batch, r, c) as (batch, heads, r, c)."""
        heads = self.shape[-1] if self.shape else 1
        return x.expand(*self.shape, *x.shape[-2:]).reshape(math.prod(self.shape[:-1]), heads, *x.shape[-2:])

    def merge_rows(self, x: Tensor) -> Tensor:
        """x (*#batch, length) as (batch, heads, length), without gaps in memory."""
        return self.merge(x[..., None, :])[..., 0, :].contiguous()


class _Columns(torch.autograd.Function):
    """(q, k, a, b) ↦ q' and k' with ⟨q', k'⟩ = ⟨q, k⟩ + a + b, to float32's accuracy.

    A bias is in columns (`backends/bias_columns.py`). Each has the same derivative, so the first gives the gradient of
    the bias.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, a: Tensor | None, b: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.d, ctx.has = q.shape[-1], (a is not None, b is not None)
        lefts, rights = [q], [k]
        for bias, own, other in ((a, lefts, rights), (b, rights, lefts)):
            if bias is not None:
                columns = bias_columns(bias, q.dtype)
                own.append(columns)
                other.append(other[0].new_full((*other[0].shape[:-1], columns.shape[-1]), column_constant(q.dtype)))
        left, right = torch.cat(lefts, -1), torch.cat(rights, -1)
        width = rounded_up(left.shape[-1], _MULTIPLE)
        return pad(left, width), pad(right, width)

    @staticmethod
    def backward(ctx: Any, dleft: Tensor, dright: Tensor) -> tuple[Tensor | None, ...]:
        d, (has_a, has_b), constant = ctx.d, ctx.has, column_constant(dleft.dtype)
        after = d + column_count(dleft.dtype) * has_a
        da = dleft[..., d].float() / constant if has_a else None
        db = dright[..., after].float() / constant if has_b else None
        return dleft[..., :d], dright[..., :d], da, db


def _both(first: _MaskMod, second: _MaskMod) -> _MaskMod:
    return lambda b, h, row, column: first(b, h, row, column) & second(b, h, row, column)


@lru_cache(maxsize=32)
def _band(before: int | None, after: int | None, rows: int, cols: int, device: torch.device) -> BlockMask:
    def allowed(b: Tensor, h: Tensor, row: Tensor, column: Tensor) -> Tensor:
        ahead = column - row
        reaches = torch.ones_like(ahead, dtype=torch.bool) if before is None else ahead >= -before
        return reaches if after is None else reaches & (ahead <= after)

    return flex_attention.create_block_mask(allowed, None, None, rows, cols, device=device)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    # torch 2.11 fails to compile some of these functions for shapes of variables, so each shape is compiled by itself.
    return torch.compile(flex_attention.flex_attention, fullgraph=True, dynamic=False)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, score_mod: Callable[..., Tensor], block_mask: BlockMask | None
) -> tuple[Tensor, Tensor]:
    """(out, lse) of FlexAttention."""
    try:
        out, more = _compiled()(
            q,
            k,
            v,
            score_mod=score_mod,
            block_mask=block_mask,
            scale=1.0,
            return_aux=flex_attention.AuxRequest(lse=True),
        )
    except Exception as error:  # the class of this error is private to torch
        if "recompile" not in type(error).__name__.lower():
            raise
        raise KernelError(
            "torch has compiled FlexAttention as often as it allows in one process; allow more by "
            "torch._dynamo.config.recompile_limit, or use kernel='auto'"
        ) from error
    return out, more.lse

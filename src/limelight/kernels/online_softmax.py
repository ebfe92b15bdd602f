"""The softmax of scores that are computed one rectangle at a time, and again in the backward pass.

    (v, b, scale, the tensors of β) ↦ (Σ_j softmax_j(s_ij) v_j, log Σ_j exp s_ij),  s = scale · β + b_j

The softmax is differentiated by hand and β by autograd, rectangle by rectangle, so that no more than
one rectangle of either exists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limelight.errors import InputError
from limelight.kernels.rows import learned_by
from limelight.mask import Mask
from limelight.similarity import Parts, Similarity, upcast
from limelight.tracing import is_differentiated_again, is_readable

ENTRIES = 1 << 20  # entries of a rectangle over all its matrices: 4 MB as float32
_TOGETHER = 16  # up to so many matrices are taken together on few threads
_LOG2_E = 1 / math.log(2)  # 2^x takes a third of the time of e^x, which takes thirty times that where it underflows


def beta(similarity: Similarity, parts: Parts, swapped: bool, rows: slice, cols: slice) -> Tensor:
    """β on a rectangle, (*#batch, r, c); if `swapped`, its rows are keys."""
    return _beta_of(similarity, _cut(parts, swapped, rows, cols), swapped, rows, cols)


def _cut(parts: Parts, swapped: bool, rows: slice, cols: slice) -> Parts:
    i, j = (cols, rows) if swapped else (rows, cols)
    return parts.map(lambda q: q[..., i, :], lambda k: k[..., j, :], lambda shared: shared)


def _beta_of(similarity: Similarity, cut: Parts, swapped: bool, rows: slice, cols: slice) -> Tensor:
    device = next(cut.tensors()).device
    along, across = (torch.arange(at.start, at.stop, device=device) for at in (rows, cols))
    beta = similarity.block(cut, across, along).mT if swapped else similarity.block(cut, along, across)
    shape = (*beta.shape[:-2], along.shape[0], across.shape[0])
    return beta if beta.shape == shape else beta.expand(shape)


@dataclass(frozen=True)
class Visit:
    """A rectangle: which matrices of the batch (the leading dimensions are fixed), which rows and columns."""

    at: tuple[int, ...]
    rows: slice
    cols: slice


@dataclass(frozen=True)
class Walk:
    """Everything that defines the scores, except the tensors to which gradients flow."""

    similarity: Similarity
    parts: Parts
    swapped: bool
    mask: Mask | None
    rows: int
    cols: int
    batch: tuple[int, ...]
    scale: float
    again: Callable[..., list[Tensor | None]]
    """(v, bias, scale tensor, tensors, dout, dlse) ↦ their gradients and those of the parameters, differentiable.

    It is used in a backward pass that is differentiated itself.
    """

    def reduce(self, v: Tensor, bias: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """(out, lse) of the scores scale · β + bias, with a scale (*#batch, 1, 1) and a bias (*#batch, m)."""
        tensors, parameters = tuple(self.parts.tensors()), tuple(learned_by(self.similarity))
        if torch.is_grad_enabled():
            self._require_nothing_else_learns(tensors, parameters)
        return _Reduce.apply(self, v, bias, scale, *tensors, *parameters)  # type: ignore[no-untyped-call]

    def visits(self) -> Iterator[Visit]:
        """Rectangles of about `ENTRIES` entries over some matrices, with all columns of some rows first."""
        if 0 in (self.rows, self.cols, *self.batch):
            return
        # A rectangle is as large as a core's cache holds, and all columns of some rows are visited before the next
        # rows, so that the sums of these rows stay in the cache while their softmax is continued. Under a narrow mask
        # rectangles are low, so that few of their entries are hidden, and begin and end with the span of keys that
        # their rows may see.
        fixed = self._fixed()
        together = math.prod(self.batch[fixed:]) * self.similarity.pair_size
        side = _rounded(math.isqrt(max(self._entries // together, 1)))
        for at in itertools.product(*map(range, self.batch[:fixed])):
            start = 0
            while start < self.rows:
                rows = slice(start, min(start + self._height(start, side, together), self.rows))
                span = slice(0, self.cols) if self.mask is None else self.mask.span(rows, self.cols)
                for left in range(span.start, span.stop, side):
                    yield Visit(at, rows, slice(left, min(left + side, span.stop)))
                start = rows.stop

    @property
    def _entries(self) -> int:
        on_cpu = next(self.parts.tensors()).device.type == "cpu"
        return ENTRIES if on_cpu else 32 * ENTRIES  # elsewhere each call costs more than the cache saves

    def _fixed(self) -> int:
        """The number of leading batch dimensions that are processed one index at a time.

        The others are taken together: a few matrices for each thread, which then works on its own ones, or more if
        they are small.
        """
        # Matrices are taken together from the last batch dimension on, until there are enough for all threads and they
        # have more entries than a rectangle; the dimensions before that are processed one index at a time.
        fixed, together = len(self.batch), 1
        each = self.rows * self.cols * self.similarity.pair_size
        few = max(_TOGETHER, 4 * torch.get_num_threads())
        while fixed > 0:
            together *= self.batch[fixed - 1]
            if together > few and together * each > self._entries:
                break
            fixed -= 1
        return fixed

    def _height(self, start: int, side: int, together: int) -> int:
        """So many rows that they fill a rectangle, or, under a narrow mask, about as many as one row sees keys."""
        height = max(1, self._entries // (together * min(side, self.cols)))
        if self.mask is None:
            return height
        span = self.mask.span(slice(start, start + 1), self.cols)
        return min(height, max(span.stop - span.start, 32))

    def pick(self, tensor: Tensor, visit: Visit) -> Tensor:
        """The part of a tensor (*#batch, x, y) that belongs to the matrices of a visit, as a view."""
        for index in visit.at[len(self.batch) - (tensor.ndim - 2) :]:
            tensor = tensor[index if len(tensor) > 1 else 0]
        return tensor

    def cut(self, tensors: Sequence[Tensor], visit: Visit) -> Parts:
        """The parts of a rectangle, as views of these tensors, which are in the order of `parts.tensors()`."""
        given = iter(tensors)
        whole = self.parts.map(*(3 * [lambda _: self.pick(next(given), visit)]))
        return _cut(whole, self.swapped, visit.rows, visit.cols)

    def beta(self, cut: Parts, visit: Visit) -> Tensor:
        return _beta_of(self.similarity, cut, self.swapped, visit.rows, visit.cols)

    def scores(self, beta: Tensor, visit: Visit, bias: Tensor | None, scale: Tensor | None) -> tuple[Tensor, float]:
        """(s, factor), where factor · s are the scores without the mask; a later step multiplies by the factor."""
        if scale is not None:
            beta = beta * self.pick(scale, visit)
        if bias is None:
            return beta, self.scale
        along = self.pick(bias[..., None, :], visit)[..., visit.cols]
        return torch.add(along, beta, alpha=self.scale), 1.0

    def hidden(self, visit: Visit, device: torch.device) -> Tensor | None:
        if self.mask is None:
            return None
        return ~self.pick(self.mask.block(visit.rows, visit.cols, device), visit)

    def _require_nothing_else_learns(self, tensors: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
        """Raise `InputError` if `block` uses another tensor that learns, which would silently get no gradient."""
        visit = next(self.visits(), None)
        if visit is None:
            return
        corner = Visit(
            visit.at, slice(visit.rows.start, visit.rows.start + 1), slice(visit.cols.start, visit.cols.start + 1)
        )
        # Autograd's graph of one entry of β shows what β is computed from: the leaves of this graph are the tensors
        # with gradients that `block` has used. All parts are detached here, so a leaf that is not a parameter of the
        # module is another tensor.
        parts = self.cut([x.detach() for x in tensors], corner)
        known, allowed = {id(x) for x in parameters}, set()
        stack = [self.beta(parts, corner).grad_fn]
        while stack:
            node = stack.pop()
            if node is None or node in allowed:
                continue
            allowed.add(node)
            if hasattr(node, "variable") and id(node.variable) not in known:
                raise InputError(
                    f"{type(self.similarity).__name__}.block uses a tensor of shape {tuple(node.variable.shape)} that "
                    "learns but is neither among its parts nor a parameter of the module, so it would get no gradient; "
                    "make it an nn.Parameter or pass it through `parts`"
                )
            stack.extend(following for following, _ in node.next_functions)


class _Reduce(torch.autograd.Function):
    """(v, b, scale, tensors of β, parameters) ↦ (out, lse), differentiable with respect to all."""

    @staticmethod
    def forward(ctx, walk, v, bias, scale, *learned):  # type: ignore[no-untyped-def]
        tensors = learned[: len(tuple(walk.parts.tensors()))]
        dtype = tensors[0].dtype
        out = v.new_zeros(*walk.batch, walk.rows, v.shape[-1], dtype=dtype)
        lse = out.new_full((*walk.batch, walk.rows, 1), -math.inf)
        total = torch.zeros_like(lse)
        for visit in walk.visits():
            s, factor = walk.scores(walk.beta(walk.cut(tensors, visit), visit), visit, bias, scale)
            hidden = walk.hidden(visit, s.device)
            s = s if hidden is None else s.masked_fill(hidden, -math.copysign(math.inf, factor))
            sums = tuple(walk.pick(x, visit)[..., visit.rows, :] for x in (lse, total, out))
            _continue_softmax(sums, s, factor, walk.pick(v, visit)[..., visit.cols, :])
        out /= total.clamp(min=torch.finfo(dtype).tiny)
        lse += total.log()
        lse = lse[..., 0]
        out = out.to(v.dtype)
        ctx.save_for_backward(v, bias, scale, out, lse, *tensors)
        ctx.walk = walk
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx, dout, dlse):  # type: ignore[no-untyped-def]
        if dout is None and dlse is None:
            return (None,) * len(ctx.needs_input_grad)
        if is_differentiated_again(dout, dlse):
            v, bias, scale, _, _, *tensors = ctx.saved_tensors
            return None, *ctx.walk.again(v, bias, scale, tensors, dout, dlse)
        device = (dlse if dout is None else dout).device.type
        with torch.autocast(device, enabled=False):
            return _Reduce._backward(ctx, dout, dlse)  # type: ignore[no-untyped-call]

    @staticmethod
    def _backward(ctx, dout, dlse):  # type: ignore[no-untyped-def]
        walk, (v, bias, scale, out, lse, *tensors) = ctx.walk, ctx.saved_tensors
        parameters = list(learned_by(walk.similarity))
        wanted = ctx.needs_input_grad[1:]
        sums = [
            torch.zeros_like(x, dtype=upcast(x).dtype, memory_format=torch.contiguous_format) if want else None
            for x, want in zip((v, bias, scale, *tensors, *parameters), wanted, strict=True)
        ]
        dv, dbias, dscale, *rest = sums
        dtensors, dparameters = rest[: len(tensors)], rest[len(tensors) :]
        inner = torch.zeros_like(lse) if dout is None else (upcast(dout) * out).sum(-1)  # D_i = ⟨out_i, dout_i⟩
        inner = (inner if dlse is None else inner - dlse)[..., None]
        # exp(s − lse) is computed as a power of two, 2^(log₂e · s − log₂e · lse). A row without keys has lse = −∞; as
        # +∞ it gives weights of exactly 0 instead of NaN.
        minus_lse = -_LOG2_E * lse.masked_fill(lse == -math.inf, math.inf)[..., None]
        for visit in walk.visits():
            cut = walk.cut(tensors, visit)
            own = [x.detach().requires_grad_(d is not None) for x, d in zip(cut.tensors(), dtensors, strict=True)]
            given = iter(own)
            # Autograd records only β of this rectangle, computed from detached parts. The gradient dS of the scores is
            # computed by hand, and autograd propagates it from β to the parts, where it is added to the gradients of
            # the other rectangles.
            with torch.enable_grad():
                beta = walk.beta(cut.map(*(3 * [lambda _: next(given)])), visit)  # noqa: B023
            s, factor = walk.scores(beta.detach(), visit, bias, scale)
            p = torch.add(walk.pick(minus_lse, visit)[..., visit.rows, :], s, alpha=_LOG2_E * factor).exp2_()
            hidden = walk.hidden(visit, s.device)
            p = p if hidden is None else p.masked_fill_(hidden, 0)
            ds = _through_softmax(walk, visit, p, v, dout, inner, dv)  # times the walk's scale
            if dbias is not None:
                _add(walk.pick(dbias[..., None, :], visit)[..., visit.cols], ds.sum(-2, keepdim=True) / walk.scale)
            if dscale is not None:
                _add(walk.pick(dscale, visit), ds * beta.detach())
            if beta.requires_grad:
                ds = ds if scale is None else ds * walk.pick(scale, visit)
                sinks = [x if d is None else d for x, d in zip(tensors, dtensors, strict=True)]
                _through_beta(beta, ds, [*own, *parameters], [*walk.cut(sinks, visit).tensors(), *dparameters])
        inputs = (v, bias, scale, *tensors, *parameters)
        return None, *(None if d is None else d.to(x.dtype) for d, x in zip(sums, inputs, strict=True))


# Online softmax (Milakov & Gimelshein 2018; Dao et al. 2022). For each row two numbers and one vector are kept while
# its columns are processed in pieces: top, the largest score so far; total = Σ e^(s − top); and out = Σ e^(s − top) v,
# over the columns seen so far. A new piece may raise top. Then the sums are too large by the factor e^(new top − old
# top), so total and out are multiplied by e^(old top − new top), which is exact up to rounding, and the piece is added.
# In the end out/total is the softmax average and top + log total the log-sum-exp. No exponent is ever positive, so
# nothing overflows. A row without a key keeps top at the smallest number and total at 0: its output is set to 0, its
# lse to −∞.
def _continue_softmax(sums: tuple[Tensor, Tensor, Tensor], s: Tensor, factor: float, v: Tensor) -> None:
    """Add these columns to Σ_j e^(factor·s_ij − top_i) and Σ_j e^(…) v_j, and update top, the largest score."""
    top, total, out = sums
    highest = (s.amax(-1, keepdim=True) if factor > 0 else s.amin(-1, keepdim=True)) * factor
    highest = torch.maximum(top, highest).clamp_(min=torch.finfo(s.dtype).min / 2)
    if _is_coarse(highest):
        p = (factor * s - highest).mul_(_LOG2_E).exp2_()
    else:
        p = torch.add(-_LOG2_E * highest, s, alpha=_LOG2_E * factor).exp2_()
    before = (_LOG2_E * (top - highest)).exp2_()
    top.copy_(highest)
    total.mul_(before).add_(p.sum(-1, keepdim=True))
    if out.shape[-1]:
        out.mul_(before).add_(p @ v.to(p.dtype))


# The exponent log₂e · (s − top) is computed in one step as log₂e · s − log₂e · top. Its second term is rounded, and by
# more than one where top has no digits after its point: then all powers of a row would be too large or too small by the
# same factor, so large that they overflow or vanish. There s − top is computed first, which is exact for s near top.
def _is_coarse(top: Tensor) -> bool:
    """True if some score that is not masked is so large that the next number is more than a half away from it."""
    if top.device.type != "cpu" or not is_readable(top):  # on a GPU reading a number would wait for the device
        return True
    kind = torch.finfo(top.dtype)
    return bool(((top.abs() > 0.5 / kind.eps) & (top > kind.min / 2)).any())


def _rounded(side: int) -> int:
    """The side rounded down to a multiple of 64, for which matrix products are fast."""
    return side - side % 64 if side > 64 else side


# The backward pass of a softmax average needs no forward values but out and lse. With p_ij = e^(s_ij − lse_i) computed
# again from the scores, dP = dout vᵀ, and D_i = Σ_j p_ij dP_ij = ⟨dout_i, out_i⟩, the gradient of the scores is
# dS = P ∘ (dP − D). A gradient g of lse itself adds P ∘ g, that is, it turns D into D − g (FlashAttention-2, Dao 2023).
def _through_softmax(
    walk: Walk, visit: Visit, p: Tensor, v: Tensor, dout: Tensor | None, inner: Tensor, dv: Tensor | None
) -> Tensor:
    """Return scale · dS = scale · P ∘ (dout vᵀ − D), and add the gradient of v to `dv`."""
    minus = walk.pick(inner, visit)[..., visit.rows, :] * walk.scale
    if dout is None:
        return p.mul_(-minus)
    gradient = walk.pick(dout, visit)[..., visit.rows, :].to(p.dtype)
    if dv is not None:
        _add(walk.pick(dv, visit)[..., visit.cols, :], p.mT @ gradient)
    gradient = gradient * walk.scale
    values = walk.pick(v, visit)[..., visit.cols, :].to(p.dtype)
    if gradient.ndim == 2 and values.ndim == 2:
        return torch.addmm(minus, gradient, values.mT, beta=-1).mul_(p)
    return (gradient @ values.mT).sub_(minus).mul_(p)


def _through_beta(beta: Tensor, ds: Tensor, sources: Sequence[Tensor], sinks: Sequence[Tensor | None]) -> None:
    """Add the gradients of this rectangle's parts, and of the similarity's parameters, to the sinks."""
    wanted = [(x, sink) for x, sink in zip(sources, sinks, strict=True) if x.requires_grad and sink is not None]
    gradients = torch.autograd.grad(beta, [x for x, _ in wanted], ds.sum_to_size(beta.shape), allow_unused=True)
    for (_, sink), gradient in zip(wanted, gradients, strict=True):
        if gradient is not None:
            _add(sink, gradient)


def _add(total: Tensor, piece: Tensor) -> None:
    """total += piece, where the piece is summed over dimensions in which total broadcasts."""
    total += piece if piece.shape == total.shape else piece.sum_to_size(total.shape)

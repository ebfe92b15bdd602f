"""Similarities that depend only on the positions of query and key, not on their contents.

Add one to a similarity of contents: `Dot() + ALiBi(heads=8)`. Query i is at position i + offset
(there is a cache of `offset` earlier keys), and key j is at position j.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.errors import DtypeError, InputError
from limelight.heads import POSITIVE, hold_tensor, require, require_count, require_offset
from limelight.shapes import broadcast_shapes
from limelight.similarity.base_similarity import Similarity
from limelight.similarity.forms import InnerProduct, PairFunction, Parts, Read
from limelight.similarity.tensors import is_finite, squeeze_head, upcast
from limelight.tracing import holds, in_transform, is_readable

if TYPE_CHECKING:
    from limelight.mask import Mask


class Positional(Similarity):
    """Base class for β_ij = of(j − i, *learned), where `learned` returns the tensors that `of` needs."""

    same_width = False
    depends_on_contents = False
    offset: int

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shapes(*(tensor.shape[:-2] for tensor in self.learned()))

    def at(self, offset: int) -> Positional:
        moved = copy.copy(self)  # what it learns is shared
        moved.offset = self.offset + offset
        return moved

    @abstractmethod
    def learned(self) -> tuple[Float[Tensor, "*#batch _ _"], ...]:
        """The tensors that `of` is given, beside positions."""

    @abstractmethod
    def of(self, ahead: Int[Tensor, " t"], *learned: Float[Tensor, "*#batch _ _"]) -> Float[Tensor, "*#batch 1 t"]:
        """β where the key is `ahead` = j − i positions ahead of the query."""

    def of_pair(self) -> _OfPair | None:
        """`of` as a function of one pair, written for a compiler; it reads what `learned` returns."""
        return None

    @property
    def has_pair_function(self) -> bool:
        return self.of_pair() is not None

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        of, offset = self.of_pair(), self.offset
        assert of is not None
        return PairFunction(None, lambda s, i, j, read: of(j - i - offset, read), self.parts(q, k).shared)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        parts, n, m = self.parts(q, k), q.shape[-2], k.shape[-2]
        if n == 1 and m > 0:  # as in decoding: its row has a number for each distance, and nothing is written twice
            return self.of(torch.arange(-self.offset, m - self.offset, device=q.device), *parts.shared)
        if 0 in (n, m):  # there is no first position
            return parts.shared[0][..., :1, :1].expand(*parts.shared[0].shape[:-2], n, m)
        return self.block(parts, *(torch.arange(length, device=q.device) for length in (n, m)))

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        return Parts(shared=tuple(tensor.to(q.device, upcast(q).dtype) for tensor in self.learned()))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        # A rectangle of r queries and c keys has r·c pairs but only r + c − 1 distances j − i. β is computed once for
        # each of these, and written along the diagonals.
        r, c = i.shape[0], j.shape[0]  # len() would fix them in an exported graph
        first = j[0] - i[0] - self.offset - (r - 1)
        along = self.of(first + torch.arange(r + c - 1, device=j.device), *parts.shared)
        if in_transform() or torch.compiler.is_exporting():
            return _toeplitz(along[..., 0, :], r, c)
        return _Toeplitz.apply(along[..., 0, :], r, c)  # type: ignore[no-untyped-call]


_OfPair = Callable[[Tensor, Read], Tensor]  # (j − i, read) ↦ β of one pair


def _toeplitz(t: Float[Tensor, "*#batch t"], r: int, c: int) -> Float[Tensor, "*#batch r c"]:
    """T_ab = t_{b − a + r − 1}."""
    if torch.compiler.is_exporting():  # a view of windows would fix r and c in the graph
        a, b = (torch.arange(length, device=t.device) for length in (r, c))
        return t[..., b - a[:, None] + (r - 1)]
    return t.unfold(-1, c, 1).index_select(-2, torch.arange(r - 1, -1, -1, device=t.device))


class _Toeplitz(torch.autograd.Function):
    """t ↦ T_ab = t_{b − a + r − 1}, (…, r + c − 1) ↦ (…, r, c): one copy, and one more for the gradient."""

    @staticmethod
    def forward(ctx, t, r, c):  # type: ignore[no-untyped-def]
        ctx.shape = r, c
        return _toeplitz(t, r, c)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        r, c = ctx.shape
        # The gradient of t is the sum along each diagonal of T. Entry (a, b) is written to position r − 1 + a·w + b of
        # a flat array, in rows of w. Read in rows of w + 1, that is row a and column b − a + r − 1, the number of its
        # diagonal: so the diagonals have become columns, which one sum adds up.
        w = r + c - 1
        batch = gradient.shape[:-2]
        flat = gradient.new_zeros(*batch, r * (w + 1) + r - 1)
        flat[..., r - 1 : r - 1 + r * w].view(*batch, r, w)[..., :c] = gradient
        return flat[..., : r * (w + 1)].view(*batch, r, w + 1).sum(-2)[..., :w], None, None


class ALiBi(Positional):
    """β = −slope_h · |i − j|, scale 1: attention with linear biases (Press et al. 2022).

    By default there are `heads` slopes 2^(−8h/heads), h = 1 … heads, for batch dimensions (…, heads); or give
    your own slopes. Under a causal mask this is a term of the key alone, and runs on the fused kernel.

    >>> import torch
    >>> from limelight import ALiBi
    >>> ALiBi(2).slopes.flatten()
    tensor([0.0625, 0.0039])
    >>> x = torch.zeros(3, 1)
    >>> ALiBi(1, slopes=torch.tensor([0.5])).dense(x, x)
    tensor([[-0.0000, -0.5000, -1.0000],
            [-0.5000, -0.0000, -0.5000],
            [-1.0000, -0.5000, -0.0000]])
    """

    def __init__(self, heads: int = 1, slopes: Float[Tensor, " heads"] | None = None, offset: int = 0) -> None:
        super().__init__()
        if slopes is None:
            require_count("ALiBi(heads=…)", heads)
            slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
        if not isinstance(slopes, Tensor) or slopes.ndim != 1 or not len(slopes) or not holds(_are_slopes(slopes)):
            raise InputError(
                f"ALiBi(slopes=…) expects a tensor (heads,) of finite numbers ≥ 0, at least one, got {slopes!r}"
            )
        require_offset("ALiBi(offset=…)", offset)
        self.register_buffer("slopes", slopes)
        self.slopes: Tensor
        self.offset = offset

    @property
    def batch_shape(self) -> tuple[int, ...]:
        heads = self.slopes.shape[0]
        return (heads,) if heads > 1 else ()

    def learned(self) -> tuple[Tensor, ...]:
        return (squeeze_head(self.slopes.view(-1, 1, 1)),)

    def of(self, ahead: Int[Tensor, "*r t"], *learned: Float[Tensor, "*#batch _ _"]) -> Float[Tensor, "*#batch _ t"]:
        return -learned[0] * ahead.abs()

    def of_pair(self) -> _OfPair:
        return lambda ahead, read: -read(0) * ahead.abs()

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        # Slopes do not learn, so computing the product costs less than copying a Toeplitz matrix.
        return self.of(j - i[:, None] - self.offset, *parts.shared)

    def under(self, mask: Mask | None) -> Similarity:
        hides = mask is not None and mask.hides_ahead_of(self.offset)
        return _Ramp(self.slopes, self.offset) if hides else self

    def extra_repr(self) -> str:
        return f"heads={len(self.slopes)}"


def _are_slopes(slopes: Tensor) -> Tensor:
    return ((slopes >= 0) & slopes.isfinite()).all()


class _Ramp(Similarity):
    """β = slope_h · (j − i): ALiBi under a mask that hides every key ahead of its query."""

    same_width = False

    def __init__(self, slopes: Float[Tensor, " heads"], offset: int) -> None:
        super().__init__()
        self.slopes, self.offset = slopes, offset

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        factors = self.as_inner_product(q, k)
        assert factors.query_bias is not None
        assert factors.key_bias is not None
        return factors.query_bias[..., :, None] + factors.key_bias[..., None, :]

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        # Why ALiBi needs no n×m bias under a causal mask. There every key j that query i may see has j ≤ i, so that
        # −slope · |i − j| = slope · (j − i) = (−slope · i) + (slope · j): a number of the query plus a number of the
        # key. The first cancels in the softmax of its row, and the second is a key bias, which the fused kernel takes.
        # Without the mask |i − j| is not such a sum, and β is computed in rectangles.
        slope = squeeze_head(self.slopes[:, None, None])[..., 0].to(q.device, upcast(q).dtype)
        i, j = (torch.arange(x.shape[-2], device=q.device) for x in (q, k))
        nothing = q.new_zeros(q.shape[-2], 0), k.new_zeros(k.shape[-2], 0)  # an inner product that is zero
        return InnerProduct(*nothing, -slope * (i + self.offset), slope * j)


class RelativeBias(Positional):
    """β = table[h, clip(j − i, −reach, reach)], learned, scale 1 (Shaw et al. 2018; Raffel et al. 2020).

    The table is (heads, 2·reach + 1), zero at first, for batch dimensions (…, heads).

    >>> import torch
    >>> from limelight import Attention, Dot, RelativeBias
    >>> q = k = torch.randn(2, 8, 10, 4)  # 8 heads
    >>> Attention(q, k, Dot() + RelativeBias(reach=3, heads=8)).shape
    (2, 8, 10, 10)
    """

    def __init__(self, reach: int, heads: int = 1, offset: int = 0) -> None:
        super().__init__()
        if isinstance(reach, bool) or not isinstance(reach, int) or reach < 0:
            raise InputError(f"RelativeBias(reach=…) expects a whole number ≥ 0, got {reach!r}")
        require_count("RelativeBias(heads=…)", heads)
        require_offset("RelativeBias(offset=…)", offset)
        self.table = nn.Parameter(torch.zeros(heads, 2 * reach + 1))
        self.reach, self.offset = reach, offset

    def learned(self) -> tuple[Tensor, ...]:
        return (squeeze_head(self.table[:, None, :]),)

    def of(self, ahead: Int[Tensor, " t"], *learned: Float[Tensor, "*#batch _ _"]) -> Float[Tensor, "*#batch 1 t"]:
        at = ahead.clamp(-self.reach, self.reach) + self.reach
        return learned[0][..., at]

    def of_pair(self) -> _OfPair:
        reach = self.reach
        return lambda ahead, read: read(0, ahead.clamp(-reach, reach) + reach)

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch #r #c"]:
        if is_readable(i):
            least, most = int(j[0] - i[-1]) - self.offset, int(j[-1] - i[0]) - self.offset
            if least >= self.reach or most <= -self.reach:  # all pairs of the rectangle have the same bias
                (table,) = parts.shared
                return table[..., -1:] if least > 0 else table[..., :1]
        return super().block(parts, i, j)

    def extra_repr(self) -> str:
        return f"reach={self.reach}, heads={len(self.table)}"


class Convolution(Positional):
    """β = −½ (j − i − shift_h)², scale `sharpness`: a head that attends to the position `shift_h` ahead of its query.

    With one head for each tap of a convolution, the sum of the heads' outputs, each multiplied by a matrix of its own,
    is the convolution; a larger `sharpness` makes it more exact (Cordonnier et al. 2020). shifts are (heads,) for batch
    dimensions (…, heads). Add a `window` as a mask, so that only pairs near the shifts are computed.

    >>> import torch
    >>> from limelight import Attention, Convolution
    >>> v = torch.arange(5.0)[:, None]
    >>> x = torch.zeros(5, 1)
    >>> A = Attention(x, x, Convolution(shifts=torch.tensor([1.0])))
    >>> (A @ v).flatten().round()  # each takes the next value; the last, which has none, takes its own
    tensor([1., 2., 3., 4., 4.])
    """

    def __init__(self, shifts: Float[Tensor, " heads"], sharpness: float = 20.0, offset: int = 0) -> None:
        super().__init__()
        if not isinstance(shifts, Tensor) or shifts.ndim != 1 or not len(shifts) or not is_finite(shifts):
            raise InputError(
                f"Convolution(shifts) expects a tensor (heads,) of finite numbers, at least one, got {shifts!r}"
            )
        require("Convolution(sharpness=…)", sharpness, POSITIVE)
        require_offset("Convolution(offset=…)", offset)
        self.shifts = nn.Parameter(shifts.float(), requires_grad=False)
        self.sharpness, self.offset = sharpness, offset

    def default_scale(self, d: int) -> float:
        return self.sharpness

    def learned(self) -> tuple[Tensor, ...]:
        return (squeeze_head(self.shifts[:, None, None]),)

    def of(self, ahead: Int[Tensor, " t"], *learned: Float[Tensor, "*#batch _ _"]) -> Float[Tensor, "*#batch 1 t"]:
        return -0.5 * (ahead - learned[0]).square()

    def of_pair(self) -> _OfPair:
        return lambda ahead, read: -0.5 * (ahead - read(0)) * (ahead - read(0))


class Bias(Similarity):
    """β_ij = table_ij, scale 1: an additive bias given as a tensor (*batch, n, m), such as T5's position bias.

    Raises `InputError` for a table that does not fit the queries and keys, or is not finite.

    >>> import torch
    >>> from limelight import Attention, Bias, Dot
    >>> table = torch.randn(6, 6)
    >>> x = torch.randn(6, 4)
    >>> Attention(x, x, Dot() + Bias(table)).shape
    (6, 6)
    """

    same_width = False

    def __init__(self, table: Float[Tensor, "*#batch n m"]) -> None:
        super().__init__()
        if not isinstance(table, Tensor) or not table.is_floating_point():
            raise DtypeError(f"Bias expects a floating tensor (*batch, n, m), got {getattr(table, 'dtype', table)!r}")
        if table.ndim < 2 or not is_finite(table):
            raise InputError("Bias expects finite numbers (*batch, n, m); to hide pairs use a mask instead")
        self.table: Tensor
        hold_tensor(self, "table", table)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.table.shape[:-2])

    @property
    def is_inner_product(self) -> bool:
        return not self.table.requires_grad

    @property
    def has_pair_bias(self) -> bool:
        return self.is_inner_product

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        nothing = q.new_zeros(q.shape[-2], 0), k.new_zeros(k.shape[-2], 0)
        return InnerProduct(*nothing, pair_bias=self.parts(q, k).queries[0])

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        return self.parts(q, k).queries[0]

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        n, m = q.shape[-2], k.shape[-2]
        if self.table.shape[-2] not in (1, n) or self.table.shape[-1] not in (1, m):
            raise InputError(
                f"a bias for {n} queries and {m} keys must have the shape (*batch, {n}, {m}), "
                f"got {tuple(self.table.shape)}"
            )
        return Parts((upcast(self.table).expand(*self.table.shape[:-2], n, m),))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        table = parts.queries[0]
        return table if j.shape[0] == table.shape[-1] else table[..., j]

    def extra_repr(self) -> str:
        return f"{tuple(self.table.shape)}"

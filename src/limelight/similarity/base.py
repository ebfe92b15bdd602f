"""How alike are a query and a key? What every similarity is, and how kernels ask it.

A similarity is β(q, k); the score of a pair is scale · β. `dense` is the definition, entry by entry.
Beside it a similarity may say how it is computed without an n×m array:

- `factor`, where β is an inner product plus a term of the query and a term of the key,

      β(q, k) = ⟨q', k'⟩ + a(q) + b(k),

  so that it runs on the fused kernel of dot-product attention;
- `parts` and `block`, where it is not: what is computed once for each query and each key, and one
  rectangle of β from that. Without them `dense` is asked for one rectangle at a time, so that β of a pair must not
  depend on anything but its query and its key.

All of them get q and k in at least float32. Only the fused kernel computes in half precision, on what `rounded_factor`
makes of `factor`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.shapes import broadcast_shapes
from limelight.tracing import is_readable

if TYPE_CHECKING:
    from limelight.mask import Mask
    from limelight.similarity.combine import Sum


@dataclass(frozen=True)
class Properties:
    """What a similarity promises of β, whatever it learns; each is a law in the tests.

    symmetric: β(x, y) = β(y, x). translation_invariant: β(x + t, y + t) = β(x, y). positive_definite:
    every matrix exp β(x_i, x_j) is. metric: √(−β) is a distance (where φ is not injective, a pseudo-metric).

    >>> from limelight import Euclidean
    >>> Euclidean().properties
    Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)
    """

    symmetric: bool = False
    translation_invariant: bool = False
    positive_definite: bool = False
    metric: bool = False

    def __and__(self, other: Properties) -> Properties:
        """What holds of a sum of two."""
        return Properties(*(getattr(self, name) and getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Factors:
    """β_ij = ⟨q_i, k_j⟩ + a_i + b_j; a term that is None is zero.

    The terms are at least float32, also where q and k are rounded: in bfloat16 they would lose what
    distinguishes near keys.
    """

    q: Float[Tensor, "*#batch n r"]
    k: Float[Tensor, "*#batch m r"]
    query_term: Float[Tensor, "*#batch n"] | None = None
    key_term: Float[Tensor, "*#batch m"] | None = None


@dataclass(frozen=True)
class Parts:
    """What a rectangle of β is computed from; `within` holds those of a sum's terms, `scales` theirs (None = 1)."""

    queries: tuple[Float[Tensor, "*#batch n _"], ...] = ()
    keys: tuple[Float[Tensor, "*#batch m _"], ...] = ()
    shared: tuple[Float[Tensor, "*#batch _ _"], ...] = ()
    scales: tuple[Float[Tensor, "*#batch 1 1"] | None, ...] = ()
    within: tuple[Parts, ...] = ()

    def tensors(self) -> Iterator[Tensor]:
        yield from (*self.queries, *self.keys, *self.shared, *(scale for scale in self.scales if scale is not None))
        for part in self.within:
            yield from part.tensors()

    def map(self, query: _Change, key: _Change, shared: _Change) -> Parts:
        """The same with every tensor changed, in the order of `tensors`."""
        return Parts(
            tuple(map(query, self.queries)),
            tuple(map(key, self.keys)),
            tuple(map(shared, self.shared)),
            scales=tuple(None if scale is None else shared(scale) for scale in self.scales),
            within=tuple(part.map(query, key, shared) for part in self.within),
        )


_Change = Callable[[Tensor], Tensor]


class Similarity(nn.Module, ABC):
    """β(q, k), a module so that what it learns is trained with the model that holds it.

    >>> import torch
    >>> from limelight import Attention, Similarity
    >>> class Manhattan(Similarity):
    ...     def dense(self, q, k):
    ...         return -torch.cdist(q, k, p=1.0)
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> Attention(x, x, Manhattan(), scale=1.0).dense().round(decimals=2)
    tensor([[0.7300, 0.2700],
            [0.2700, 0.7300]])
    """

    properties: Properties = Properties()
    same_width: bool = True  # must queries and keys have the same width?
    pair_size: int = 1  # numbers held for each pair while a block is computed
    coefficient: float = 1.0  # what a block is to be multiplied by, which costs less when it is done with the scale

    def default_scale(self, d: int) -> float | Tensor:
        """What β is multiplied by when no `scale=` is given; d is the width of q."""
        return 1.0

    @abstractmethod
    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        """β, entry by entry: the definition. q and k are in at least float32."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch dimensions of what it holds for single heads, (…, heads); () if nothing."""
        return ()

    @property
    def factored(self) -> bool:
        """Does `factor` say how β is an inner product and two terms?"""
        return type(self).factor is not Similarity.factor

    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        """β as an inner product and two terms, of q and k in at least float32.

        `real` says which keys are tokens; what a key that is not holds must not move the others.
        """
        raise NotImplementedError(f"{type(self).__name__} is not an inner product and two terms")

    def rounded_factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        """`factor` with q' and k' in the dtype of q, as the fused kernel takes them; the terms are at least float32.

        In half precision this rounds q' and k'. A distance overrides it and takes its terms from the rounded q' and k',
        because only then is the distance of near points small (`Euclidean`).
        """
        upcast_q, upcast_k = upcast_pair(q, k)
        factors = self.factor(upcast_q, upcast_k, real)
        left = q if factors.q is upcast_q else factors.q.to(q.dtype)
        right = k if factors.k is upcast_k else factors.k.to(k.dtype)
        return Factors(left, right, factors.query_term, factors.key_term)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        """What is computed once for each query and each key, from q and k in at least float32."""
        if self.factored:
            return as_one_product(self.factor(q, k, real))
        self._require_pairs(q, k)
        return Parts((q,), (k,))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        """β / coefficient for the queries at positions i and the keys at positions j, whose parts these are.

        i and j are runs of whole numbers. Gradients flow to `parts` and to the module's own
        parameters, to nothing else.
        """
        if not self.factored:
            return self.dense(parts.queries[0], parts.keys[0])
        return parts.queries[0] @ parts.keys[0].mT

    def _require_pairs(self, q: Tensor, k: Tensor) -> None:
        """Raise unless `dense` gives each pair alone the value that it has among others; tried on three tokens."""
        if self._is_of_pairs or not (is_readable(q) and is_readable(k)) or 0 in (*q.shape, *k.shape):
            return
        with torch.no_grad():
            some_q, some_k = (x[..., sorted({0, x.shape[-2] // 2, x.shape[-2] - 1}), :] for x in (q, k))
            together = checked_dense(self, some_q, some_k)
            alone = torch.cat(
                [
                    torch.cat([checked_dense(self, one_q, one_k) for one_k in some_k.split(1, -2)], -1)
                    for one_q in some_q.split(1, -2)
                ],
                -2,
            )
        near = torch.finfo(together.dtype).eps ** 0.5
        if not torch.allclose(alone, together, rtol=near, atol=near * float(together.abs().max()), equal_nan=True):
            raise InputError(
                f"{type(self).__name__}.dense gives a pair alone another value than the same pair among others. So it "
                "depends on more than the query and the key (on their positions, say), and cannot be computed "
                "for a part of the matrix; define `block(parts, i, j)`, which is given the positions, or use "
                "kernel='reference'"
            )
        self._is_of_pairs = some_q.shape[-2] > 1 and some_k.shape[-2] > 1

    _is_of_pairs = False  # found so by `_require_pairs`

    def under(self, mask: Mask | None) -> Similarity:
        """The same β on the pairs that the mask shows, perhaps in a form that is computed faster."""
        return self

    def __add__(self, other: Similarity) -> Sum:
        """Content and position: the score of the sum is the sum of the scores, each with its own scale."""
        from limelight.similarity.combine import Sum  # a sum is a similarity itself

        return Sum(self, other)


def checked_dense(similarity: Similarity, q: Tensor, k: Tensor) -> Float[Tensor, "*batch n m"]:
    """`similarity.dense(q, k)`, after its shape is found to be (…, n, m)."""
    beta, expected = similarity.dense(q, k), (q.shape[-2], k.shape[-2])
    if not isinstance(beta, Tensor) or beta.shape[-2:] != expected:
        came = tuple(beta.shape) if isinstance(beta, Tensor) else type(beta).__name__
        raise InputError(
            f"{type(similarity).__name__}.dense must return (…, {expected[0]}, {expected[1]}) for queries "
            f"{tuple(q.shape)} and keys {tuple(k.shape)}; it returned {came}"
        )
    return beta


def upcast_pair(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """q and k in at least float32; one tensor if they are."""
    upcast = wide(q)
    return upcast, upcast if k is q else wide(k)


def is_finite(x: Tensor) -> bool:
    """No NaN and no infinity. One sum decides in the common case; overflow asks entry by entry.

    Where the entries cannot be looked at (a compiled graph, torch.func) it is taken for granted.
    """
    if not is_readable(x):
        return True
    return math.isfinite(x.detach().sum().item()) or bool(x.detach().isfinite().all())


_NEAR = 0.25  # of the variance: a mean square up to there adds less than a bit to the largest product


def center(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Float[Tensor, "*#batch 1 d"]:
    """The mean of the real keys, for what does not see a common translation; so it carries no gradient."""
    k = wide(k.detach())
    if real is None:
        return k.mean(-2, keepdim=True)
    total = torch.where(real[..., None], k, 0).sum(-2, keepdim=True)
    return total / real.sum(-1)[..., None, None].clamp(min=1)


def offset(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Tensor | None:
    """`center`, or None where it is within half a deviation of zero: taking it off would save no digit.

    That is not asked where an answer has to be waited for, or where keys that are not real may say anything.
    """
    middle = center(k, real)
    if real is not None or k.device.type != "cpu" or not is_readable(k) or 0 in k.shape:
        return middle
    mean_square = torch.linalg.vector_norm(k.detach(), dim=(-2, -1), dtype=middle.dtype).square() / k.shape[-2]
    own = middle.square().sum((-2, -1))
    return middle if bool((own > _NEAR * (mean_square - own)).any()) else None


def for_heads(x: Float[Tensor, "heads _ _"]) -> Float[Tensor, "*heads _ _"]:
    """(heads, …) as it stands beside scores; one head is no dimension of the batch."""
    return x[0] if len(x) == 1 else x


def as_one_product(factors: Factors) -> Parts:
    """⟨q, k⟩ + a + b = ⟨(q, a, 1), (k, 1, b)⟩: two columns of a product cost less than two passes over it."""
    left, right = [wide(factors.q)], [wide(factors.k)]
    if factors.query_term is not None:
        left.append(factors.query_term[..., None])
        right.append(torch.ones_like(right[0][..., :1]))
    if factors.key_term is not None:
        left.append(torch.ones_like(left[0][..., :1]))
        right.append(factors.key_term[..., None])
    return Parts((beside(left),), (beside(right),))


def beside(tensors: list[Tensor]) -> Float[Tensor, "*batch n w"]:
    """Columns of all, with the batch dimensions of all."""
    if len(tensors) == 1:
        return tensors[0]
    rows = broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    return torch.cat([tensor.expand(*rows, tensor.shape[-1]) for tensor in tensors], -1)


def wide(x: Tensor) -> Tensor:
    """x in the dtype in which biases and statistics are kept: float64 if it is, else float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""How alike are a query and a key? The base class of every similarity, and what kernels ask of it.

A similarity is β(q, k); the score of a pair is scale · β. `dense` is the definition, entry by entry.
A similarity may also say how to compute β without an n×m array:

- `as_inner_product`, where β is an inner product plus a bias of the query and a bias of the key,

      β(q, k) = ⟨q', k'⟩ + a(q) + b(k),

  so that it runs on the fused kernel of dot-product attention;
- `parts` and `block`, where it is not: `parts` is computed once for each query and each key, and `block` computes one
  rectangle of β from the parts of its rows and columns. Without them `dense` is called on one rectangle at a time, so
  β of a pair must depend on nothing but its query and its key.

All of them get q and k in at least float32. Only the fused kernel computes in half precision: it rounds q' and k'
(`rounded_inner_product`).
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
    """Properties that β has for every value of its parameters; the tests check each of them.

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
        """The properties that a sum of the two similarities has."""
        return Properties(*(getattr(self, name) and getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class InnerProduct:
    """β_ij = ⟨q_i, k_j⟩ + a_i + b_j with a = query_bias and b = key_bias; a bias that is None is zero.

    The biases are at least float32, also where q and k are rounded to half precision: rounded like them, they would
    no longer tell near keys apart.
    """

    q: Float[Tensor, "*#batch n r"]
    k: Float[Tensor, "*#batch m r"]
    query_bias: Float[Tensor, "*#batch n"] | None = None
    key_bias: Float[Tensor, "*#batch m"] | None = None


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
    same_width: bool = True  # True if queries and keys must have the same width
    pair_size: int = 1  # numbers held for each pair while a block is computed
    coefficient: float = 1.0  # β = coefficient · block: the kernel multiplies by it together with the scale

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
    def is_inner_product(self) -> bool:
        """True if `as_inner_product` is defined: β is an inner product plus a bias for each query and each key."""
        return type(self).as_inner_product is not Similarity.as_inner_product

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        """β as an inner product plus two biases, of q and k in at least float32.

        `real` is True for keys that are tokens and False for padding, whose entries must not influence the result for
        the other keys.
        """
        raise NotImplementedError(f"{type(self).__name__} is not an inner product plus two biases")

    def rounded_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        """`as_inner_product` with q' and k' in the dtype of q, as the fused kernel takes them; biases are not rounded.

        In half precision this rounds q' and k'. A distance overrides it and computes its biases from the rounded q' and
        k', because only then is the distance of near points small (`Euclidean`).
        """
        upcast_q, upcast_k = upcast_pair(q, k)
        factors = self.as_inner_product(upcast_q, upcast_k, real)
        left = q if factors.q is upcast_q else factors.q.to(q.dtype)
        right = k if factors.k is upcast_k else factors.k.to(k.dtype)
        return InnerProduct(left, right, factors.query_bias, factors.key_bias)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        """What is computed once for each query and each key, from q and k in at least float32."""
        if self.is_inner_product:
            return as_one_product(self.as_inner_product(q, k, real))
        self._require_pairs(q, k)
        return Parts((q,), (k,))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        """β / coefficient for the queries at positions i and the keys at positions j, whose parts these are.

        i and j are runs of whole numbers. Gradients flow to `parts` and to the module's own
        parameters, to nothing else.
        """
        if not self.is_inner_product:
            return self.dense(parts.queries[0], parts.keys[0])
        return parts.queries[0] @ parts.keys[0].mT

    def _require_pairs(self, q: Tensor, k: Tensor) -> None:
        """Raise `InputError` if `dense` of a pair depends on other tokens or positions; tried on three tokens."""
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
    upcast_q = upcast(q)
    return upcast_q, upcast_q if k is q else upcast(k)


def is_finite(x: Tensor) -> bool:
    """No NaN and no infinity. One sum decides in the common case; overflow asks entry by entry.

    Where the entries cannot be looked at (a compiled graph, torch.func) it is taken for granted.
    """
    if not is_readable(x):
        return True
    return math.isfinite(x.detach().sum().item()) or bool(x.detach().isfinite().all())


_NEAR = 0.25  # of the variance: a mean square up to there adds less than a bit to the largest product


def center(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Float[Tensor, "*#batch 1 d"]:
    """The mean of the keys that are not padding, without a gradient: subtracting it changes no result."""
    k = upcast(k.detach())
    if real is None:
        return k.mean(-2, keepdim=True)
    total = torch.where(real[..., None], k, 0).sum(-2, keepdim=True)
    return total / real.sum(-1)[..., None, None].clamp(min=1)


def shift_for_precision(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Tensor | None:
    """The mean of the keys, or None if subtracting it would not reduce rounding error.

    That is so where the mean is smaller than half a standard deviation. On a GPU, where reading the answer would wait
    for the device, and under padding the mean is always returned.
    """
    middle = center(k, real)
    if real is not None or k.device.type != "cpu" or not is_readable(k) or 0 in k.shape:
        return middle
    mean_square = torch.linalg.vector_norm(k.detach(), dim=(-2, -1), dtype=middle.dtype).square() / k.shape[-2]
    own = middle.square().sum((-2, -1))
    return middle if bool((own > _NEAR * (mean_square - own)).any()) else None


def squeeze_head(x: Float[Tensor, "heads _ _"]) -> Float[Tensor, "*heads _ _"]:
    """(heads, …) as it broadcasts against scores (*batch, heads, n, m): a single head's dimension is dropped."""
    return x[0] if len(x) == 1 else x


def as_one_product(factors: InnerProduct) -> Parts:
    """⟨q, k⟩ + a + b = ⟨(q, a, 1), (k, 1, b)⟩: two more columns cost less than two more passes over the n×m scores."""
    left, right = [upcast(factors.q)], [upcast(factors.k)]
    if factors.query_bias is not None:
        left.append(factors.query_bias[..., None])
        right.append(torch.ones_like(right[0][..., :1]))
    if factors.key_bias is not None:
        left.append(torch.ones_like(left[0][..., :1]))
        right.append(factors.key_bias[..., None])
    return Parts((concat_features(left),), (concat_features(right),))


def concat_features(tensors: list[Tensor]) -> Float[Tensor, "*batch n w"]:
    """The tensors, broadcast over their batch dimensions and concatenated along the last one."""
    if len(tensors) == 1:
        return tensors[0]
    rows = broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    return torch.cat([tensor.expand(*rows, tensor.shape[-1]) for tensor in tensors], -1)


def upcast(x: Tensor) -> Tensor:
    """x in at least float32, the precision of biases and statistics."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""The forms in which β can be computed without an n×m array: an inner product plus biases, or parts of a rectangle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

from limelight.similarity.tensors import concat_features, upcast


@dataclass(frozen=True)
class InnerProduct:
    """β_ij = ⟨q_i, k_j⟩ + a_i + b_j + t_ij; a = query_bias, b = key_bias, t = pair_bias; a bias that is None is zero.

    The biases are at least float32, also if q and k are rounded to half precision: in half precision they could no
    longer distinguish similar keys. The bias of pairs is an array that exists already and has no gradient, such as a
    table of relative positions; the kernel adds it to the scores.
    """

    q: Float[Tensor, "*#batch n r"]
    k: Float[Tensor, "*#batch m r"]
    query_bias: Float[Tensor, "*#batch n"] | None = None
    key_bias: Float[Tensor, "*#batch m"] | None = None
    pair_bias: Float[Tensor, "*#batch #n #m"] | None = None


class Read(Protocol):
    """read(t) and read(t, c): the number, or entry c of the row, that `shared[t]` has for the head of a pair."""

    def __call__(self, t: int, c: Tensor | None = None) -> Tensor: ...


def _product(product: Tensor, i: Tensor, j: Tensor, read: Read) -> Tensor:
    return product


@dataclass(frozen=True)
class PairFunction:
    """β_ij = of(⟨q_i, k_j⟩ + a_i + b_j, i, j, read), with the factors q, k, a and b; the product is 0 without factors.

    `of` is written for the four numbers of one pair, in operations of torch, so that a compiler can put it into the
    kernel of attention (FlexAttention, 2412.05496). What it reads beside them lies in `shared`, with one number or one
    row for each head.
    """

    factors: InnerProduct | None
    of: Callable[[Tensor, Tensor, Tensor, Read], Tensor] = _product
    shared: tuple[Float[Tensor, "*#batch 1 _"], ...] = ()

    def times(self, scale: float | Float[Tensor, "*#batch 1 1"]) -> PairFunction:
        """scale · β."""
        of, last = self.of, len(self.shared)
        if not isinstance(scale, Tensor):
            return self if scale == 1 else replace(self, of=lambda s, i, j, read: scale * of(s, i, j, read))
        shared = (*self.shared, scale.reshape(scale.shape or (1, 1)))
        return PairFunction(self.factors, lambda s, i, j, read: read(last) * of(s, i, j, read), shared)

    def plus(self, positions: PairFunction) -> PairFunction:
        """The sum of β and of a function that has no factors."""
        first, second, start = self.of, positions.of, len(self.shared)

        def of(s: Tensor, i: Tensor, j: Tensor, read: Read) -> Tensor:
            return first(s, i, j, read) + second(s, i, j, lambda t, c=None: read(start + t, c))

        return PairFunction(self.factors, of, (*self.shared, *positions.shared))


class KeyFactors(NamedTuple):
    """The factors of β = ⟨q', k'⟩ + b that depend on the keys: k', and the bias b, or None if it is zero."""

    k: Float[Tensor, "*#batch m r"]
    bias: Float[Tensor, "*#batch m"] | None = None


@dataclass(frozen=True)
class Parts:
    """The tensors from which a rectangle of β is computed. For a sum, `within` and `scales` belong to its terms."""

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
        """The same parts with a function applied to every tensor, in the order of `tensors`."""
        return Parts(
            tuple(map(query, self.queries)),
            tuple(map(key, self.keys)),
            tuple(map(shared, self.shared)),
            scales=tuple(None if scale is None else shared(scale) for scale in self.scales),
            within=tuple(part.map(query, key, shared) for part in self.within),
        )


_Change = Callable[[Tensor], Tensor]


def as_one_product(factors: InnerProduct) -> Parts:
    """⟨q, k⟩ + a + b = ⟨(q, a, 1), (k, 1, b)⟩: two more columns cost less than two more passes over the n×m scores."""
    assert factors.pair_bias is None
    left, right = [upcast(factors.q)], [upcast(factors.k)]
    if factors.query_bias is not None:
        left.append(factors.query_bias[..., None])
        right.append(right[0].new_ones(*right[0].shape[:-1], 1))
    if factors.key_bias is not None:
        left.append(left[0].new_ones(*left[0].shape[:-1], 1))
        right.append(factors.key_bias[..., None])
    return Parts((concat_features(left),), (concat_features(right),))

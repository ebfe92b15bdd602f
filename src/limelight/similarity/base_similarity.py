"""The base class of every similarity, and the methods of it that kernels call.

A similarity is β(q, k); the score of a pair is scale · β. `dense` is the definition, entry by entry.
A similarity may also say how to compute β without an n×m array:

- `as_inner_product`, where β is an inner product plus a bias of the query and a bias of the key,

      β(q, k) = ⟨q', k'⟩ + a(q) + b(k),

  so that it runs on the fused kernel of dot-product attention;
- `parts` and `block`, where it is not: `parts` is computed once for each query and each key, and `block` computes one
  rectangle of β from the parts of its rows and columns. Without them `dense` is called on one rectangle at a time, so
  β of a pair must depend only on its query and its key.

All of them get q and k in at least float32. Only the fused kernel computes in half precision: it rounds q' and k'
(`rounded_inner_product`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads import batch_shape_of, learns, per_row
from limelight.shapes import broadcast_shapes
from limelight.similarity.forms import InnerProduct, KeyFactors, PairFunction, Parts, as_one_product
from limelight.similarity.tensors import concat_features, times, upcast, upcast_pair
from limelight.tracing import is_readable

if TYPE_CHECKING:
    from limelight.mask import Mask


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


# The methods and attributes that compute the β of `dense` in another form, or say which form that is.
_FORMS = {
    "as_inner_product", "rounded_inner_product", "is_inner_product", "has_pair_bias", "parts", "block", "coefficient",
    "of_few", "key_factors", "query_factors", "of_product", "under", "pair_function", "has_pair_function",
}  # fmt: skip


class Similarity(nn.Module, ABC):
    """β(q, k). It is a module, so that its parameters are trained with the model that contains it.

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
    depends_on_contents: bool = True  # False if β depends on the positions of query and key alone
    coefficient: float = 1.0  # β = coefficient · block: the kernel multiplies by it together with the scale

    def __new__(cls, *_: Any, **__: Any) -> Self:
        # A subclass that overrides `dense` does not inherit its parent's other forms: a subclass of `Euclidean` with
        # its own `dense` would otherwise silently run on the parent's inner product. It gets the forms of the base
        # class, and so do its own subclasses.
        for kind in cls.__mro__:
            if kind is Similarity:
                break
            if "dense" in kind.__dict__:
                for name in _FORMS - kind.__dict__.keys():
                    setattr(kind, name, Similarity.__dict__[name])
        return super().__new__(cls)

    def default_scale(self, d: int) -> float | Tensor:
        """What β is multiplied by when no `scale=` is given; d is the width of q."""
        return 1.0

    @abstractmethod
    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        """β, entry by entry: the definition. q and k are in at least float32."""

    def of_few(
        self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]
    ) -> Float[Tensor, "*#batch n m"] | None:
        """β of a few queries in one pass over the keys, without gradients; None if the similarity cannot do this.

        β must be NaN or infinite if the query or the key is: then finite scores show that all keys are finite.
        """
        return None

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors | None:
        """(k', b) of β(q, k) = ⟨q', k'⟩ + b(k) + a(q), computed from keys alone, so that they can be kept; or None.

        a(q) is left out, since a softmax over keys cancels it. The mean of the keys is not subtracted, since later keys
        are not known yet.
        """
        return None

    def query_factors(self, q: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n r"]:
        """q' of the same equation as `key_factors`."""
        return q

    def of_product(
        self, product: Float[Tensor, "*#batch n m"], q: Float[Tensor, "*#batch n d"]
    ) -> Float[Tensor, "*#batch n m"]:
        """β of ⟨q', k'⟩ + b(k): the number itself, up to a(q), or a function of it and the query, as for `StudentT`."""
        return product

    @property
    def has_pair_function(self) -> bool:
        """True if `pair_function` is defined."""
        return type(self).pair_function is not Similarity.pair_function or _is_product(self)

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        """β as a function of an inner product and of positions, for q and k in their own dtype."""
        return PairFunction(self.rounded_inner_product(q, k, real))

    def at(self, offset: int) -> Similarity:
        """The same β for queries of which the first is at position `offset`. Similarities of contents do not change."""
        return self

    def _with(self, **modules: nn.Module) -> Similarity:
        """A copy of this similarity in which these submodules are replaced; everything else is shared."""
        other = copy.copy(self)
        other._modules = {**self._modules, **modules}
        return other

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch dimensions (…, heads) of parameters that differ from head to head; () if there are none."""
        return ()

    @property
    def is_inner_product(self) -> bool:
        """True if `as_inner_product` is defined: β is an inner product plus a bias for each query and each key."""
        return type(self).as_inner_product is not Similarity.as_inner_product

    @property
    def has_pair_bias(self) -> bool:
        """True if `as_inner_product` has a bias of pairs, an n×m array that does not learn."""
        return False

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
        if upcast_q is q and upcast_k is k:
            return self.as_inner_product(q, k, real)
        factors = self.as_inner_product(upcast_q, upcast_k, real)
        left = q if factors.q is upcast_q else factors.q.to(q.dtype)
        right = k if factors.k is upcast_k else factors.k.to(k.dtype)
        return InnerProduct(left, right, factors.query_bias, factors.key_bias, factors.pair_bias)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        """What is computed once for each query and each key, from q and k in at least float32."""
        if self.is_inner_product and not self.has_pair_bias:
            return as_one_product(self.as_inner_product(q, k, real))
        self._require_pairs(q, k)
        return Parts((q,), (k,))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        """β / coefficient for the queries at positions i and the keys at positions j, whose parts these are.

        i and j are consecutive whole numbers. Gradients flow only to `parts` and to the module's own parameters.
        """
        if not self.is_inner_product:
            return self.dense(parts.queries[0], parts.keys[0])
        return parts.queries[0] @ parts.keys[0].mT

    def _require_pairs(self, q: Tensor, k: Tensor) -> None:
        """Raise `InputError` if `dense` of a pair depends on other tokens or positions; tried on three tokens."""
        # A kernel computes β in rectangles, which is right only if the value of a pair does not depend on the
        # rectangle. So the first, the middle and the last token are given to `dense` together, and each pair of them
        # alone. Equal values are no proof for all inputs, but they detect a bias of positions, a softmax or a mean over
        # tokens. A similarity that has passed is not tested again.
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

    _is_of_pairs = False  # set by `_require_pairs`

    def under(self, mask: Mask | None) -> Similarity:
        """The same β on the pairs that the mask shows, perhaps in a form that is computed faster."""
        return self

    def __add__(self, other: Similarity) -> Sum:
        """Content and position: the score of the sum is the sum of the scores, each with its own scale."""
        return Sum(self, other)


class Sum(Similarity):
    """β = Σ_t scale_t · β_t(q, k), scale 1: each term with its own scale, such as content + position.

    Where every term is an inner product plus biases, so is the sum.

    >>> import torch
    >>> from limelight import ALiBi, Dot
    >>> type(Dot() + ALiBi()).__name__
    'Sum'
    """

    def __init__(self, *terms: Similarity) -> None:
        super().__init__()
        for term in terms:
            if not isinstance(term, Similarity):
                raise InputError(f"a sum of similarities expects Similarity objects, got {term!r}")
        flat = [part for term in terms for part in (term.parts_of_sum() if type(term) is Sum else [term])]
        self.terms = nn.ModuleList(flat)
        self.properties = reduce(and_, (term.properties for term in flat), Properties(True, True, True, True))
        self.same_width = any(term.same_width for term in flat)
        self.pair_size = max(term.pair_size for term in flat)

    def at(self, offset: int) -> Similarity:
        return self._with(terms=nn.ModuleList(term.at(offset) for term in self.parts_of_sum()))

    def parts_of_sum(self) -> list[Similarity]:
        """The similarities that are added."""
        return [term for term in self.terms if isinstance(term, Similarity)]

    def _scaled(self, q: Tensor) -> list[tuple[Similarity, float | Tensor]]:
        return [(term, term.default_scale(q.shape[-1])) for term in self.parts_of_sum()]

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return reduce(torch.add, [scale * term.dense(q, k) for term, scale in self._scaled(q)])

    def of_few(
        self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]
    ) -> Float[Tensor, "*#batch n m"] | None:
        scaled = self._scaled(q)
        found = [term.of_few(q, k) for term, _ in scaled]
        if all(beta is None for beta in found):
            return None
        terms = zip(scaled, found, strict=True)  # if one term is not finite, the sum is not either
        return reduce(
            torch.add, [times(term.dense(q, k) if beta is None else beta, scale) for (term, scale), beta in terms]
        )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        terms = self.parts_of_sum()
        shapes = [*(term.batch_shape for term in terms), *(batch_shape_of(term.default_scale(1)) for term in terms)]
        return broadcast_shapes(*([shape for shape in shapes if shape] or [()]))

    @property
    def is_inner_product(self) -> bool:
        # The kernel computes no gradient for a bias of pairs, so its scale must not learn either.
        return all(
            term.is_inner_product and not (term.has_pair_bias and learns(term.default_scale(1)))
            for term in self.parts_of_sum()
        )

    @property
    def has_pair_bias(self) -> bool:
        return any(term.has_pair_bias for term in self.parts_of_sum())

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return _add_factors([(term.as_inner_product(q, k, real), scale) for term, scale in self._scaled(q)])

    def rounded_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return _add_factors([(term.rounded_inner_product(q, k, real), scale) for term, scale in self._scaled(q)])

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        # All terms that are inner products become one: a rectangle then costs one product of matrices, however many
        # they are. Every other term keeps its own parts and its scale, and is added block by block.
        scaled = self._scaled(q)
        products = [(term.as_inner_product(q, k, real), scale) for term, scale in scaled if _is_product(term)]
        others = [(term, scale) for term, scale in scaled if not _is_product(term)]
        whole = as_one_product(_add_factors(products)) if products else Parts()
        return Parts(
            whole.queries,
            whole.keys,
            scales=tuple(_as_tensor(scale, term.coefficient, upcast(q)) for term, scale in others),
            within=tuple(term.parts(q, k, real) for term, _ in others),
        )

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        others = [term for term in self.parts_of_sum() if not _is_product(term)]
        blocks = []
        for term, scale, own in zip(others, parts.scales, parts.within, strict=True):
            beta = term.block(own, i, j)
            blocks.append(beta if scale is None else scale * beta)
        if not parts.queries:
            return reduce(torch.add, blocks)
        q, k = parts.queries[0], parts.keys[0]
        if q.ndim == k.ndim == 2 and blocks and blocks[0].ndim == 2:
            return torch.addmm(reduce(torch.add, blocks), q, k.mT)
        return reduce(_plus, blocks, q @ k.mT)

    @property
    def has_pair_function(self) -> bool:
        # The kernel has one inner product for each pair, so all terms but positional ones must be in it.
        others = [term for term in self.parts_of_sum() if not _is_product(term)]
        return all(term.has_pair_function and not term.depends_on_contents for term in others)

    @property
    def depends_on_contents(self) -> bool:  # type: ignore[override]
        return any(term.depends_on_contents for term in self.parts_of_sum())

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        scaled = self._scaled(q)
        products = [(term.rounded_inner_product(q, k, real), scale) for term, scale in scaled if _is_product(term)]
        factors = _add_factors(products) if products else None
        others = [term.pair_function(q, k, real).times(scale) for term, scale in scaled if not _is_product(term)]
        return reduce(PairFunction.plus, others, PairFunction(factors))

    def under(self, mask: Mask | None) -> Similarity:
        terms = self.parts_of_sum()
        changed = [term.under(mask) for term in terms]
        return self if all(x is term for x, term in zip(changed, terms, strict=True)) else Sum(*changed)


def checked_dense(similarity: Similarity, q: Tensor, k: Tensor) -> Float[Tensor, "*batch n m"]:
    """`similarity.dense(q, k)`, after its shape is found to be (*batch, n, m), or one that broadcasts to it."""
    beta, pairs = similarity.dense(q, k), (q.shape[-2], k.shape[-2])
    batch = broadcast_shapes(q.shape[:-2], k.shape[:-2], similarity.batch_shape)
    if not isinstance(beta, Tensor) or beta.shape[-2:] != pairs or not _fits(beta.shape[:-2], batch):
        came = tuple(beta.shape) if isinstance(beta, Tensor) else type(beta).__name__
        raise InputError(
            f"{type(similarity).__name__}.dense must return {(*batch, *pairs)} for queries {tuple(q.shape)} and keys "
            f"{tuple(k.shape)}; it returned {came}; declare further batch dimensions in `batch_shape`"
        )
    return beta


def _fits(batch: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """True if tensors with these batch dimensions broadcast to the whole ones."""
    aligned = zip(reversed(batch), reversed(whole), strict=False)
    return len(batch) <= len(whole) and all(one in (1, other) for one, other in aligned)


def _plus(whole: Tensor, block: Tensor) -> Tensor:
    """whole + block, in place if the shapes allow it: the gradient of a product does not need the product."""
    fits = torch.broadcast_shapes(whole.shape, block.shape) == whole.shape
    return whole.add_(block) if fits else whole + block


def _is_product(term: Similarity) -> bool:
    """True if β is an inner product of tensors of queries and of keys, without an array of pairs."""
    return term.is_inner_product and not term.has_pair_bias


def _add_factors(terms: list[tuple[InnerProduct, float | Tensor]]) -> InnerProduct:
    """Σ scale · β of similarities that are inner products plus biases, as one inner product plus biases."""
    # Σ_t s_t ⟨q_t, k_t⟩ = ⟨(s_1 q_1, s_2 q_2, …), (k_1, k_2, …)⟩, the features side by side. Biases are added, each
    # times its own scale, since a sum has the scale 1.
    lefts, rights, a, b, t = [], [], [], [], []
    for factors, scale in terms:
        outer = per_row(scale)
        lefts.append((factors.q * scale).to(factors.q.dtype))
        rights.append(factors.k)
        a += [] if factors.query_bias is None else [factors.query_bias * outer]
        b += [] if factors.key_bias is None else [factors.key_bias * outer]
        t += [] if factors.pair_bias is None else [times(factors.pair_bias, scale)]
    query_bias, key_bias, pair_bias = (reduce(torch.add, biases) if biases else None for biases in (a, b, t))
    return InnerProduct(concat_features(lefts), concat_features(rights), query_bias, key_bias, pair_bias)


def _as_tensor(scale: float | Tensor, coefficient: float, like: Tensor) -> Tensor | None:
    """The scale as a tensor with the dimensions of a block, or None if it is one."""
    if not isinstance(scale, Tensor):
        return None if scale * coefficient == 1 else like.new_full((1, 1), scale * coefficient)
    return (scale * coefficient).to(like.dtype).reshape(scale.shape or (1, 1))

"""What a similarity computes from keys alone, kept while keys are appended, and the scores of a few queries from it."""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.growing import Growing
from limelight.heads import per_head
from limelight.kernels.few import anything_learns, product, weights_of_few
from limelight.mask import Mask
from limelight.normalization import Normalization, Softmax
from limelight.similarity import (
    Positional,
    Similarity,
    Sum,
    is_finite,
    is_wide,
    shift_for_precision,
    unscaled,
    upcast,
)
from limelight.tracing import is_autocast

_FEW = 16  # the scores of at most so many queries are stored
_FIRST = 64  # up to so many keys, the middle of the first ones is good enough


class KeptKeys:
    """k' and b(k) of all keys so far, from which β is computed, ⟨q', k'⟩ + b(k) or a function of it, for each term.

    `update` is called with all keys and computes these for the keys that are new.
    """

    def __init__(self, similarity: Similarity) -> None:
        self.similarity, self.length = similarity, 0
        self._since = 0  # the number of keys when everything was last computed anew
        self._are_finite = True
        terms = similarity.parts_of_sum() if type(similarity) is Sum else [similarity]
        self._positions = [term for term in terms if isinstance(unscaled(term), Positional)]
        self._contents = [_Content(term) for term in terms if term not in self._positions]

    def update(self, keys: Float[Tensor, "*batch m d"]) -> None:
        """Compute what is kept for the keys after the first `length`."""
        if keys.shape[-2] == self.length:
            return
        with torch.no_grad():
            # A distance is computed about the keys' middle, so that small terms cancel and not large ones. The middle
            # of the first keys may be far from that of later ones, so with each doubling everything is computed anew;
            # for all keys together that is twice the work at most.
            anew = self.length == 0 or keys.shape[-2] > max(2 * self._since, _FIRST)
            new = keys if anew else keys[..., self.length :, :]
            self._are_finite = is_finite(new) and (anew or self._are_finite)
            for content in self._contents:
                content.keep(new, anew)
        self.length, self._since = keys.shape[-2], keys.shape[-2] if anew else self._since

    def crop(self, length: int) -> None:
        """Forget all keys after the first `length`."""
        self.length = min(self.length, length)
        for content in self._contents:
            content.k.length, content.bias.length = (min(x.length, length) for x in (content.k, content.bias))

    def select(self, index: Tensor) -> None:
        """Keep these entries of the first batch dimension, as `Growing.select`."""
        for content in self._contents:
            content.select(index)

    def scores(
        self,
        query: Float[Tensor, "*batch h n d"],
        keys: Float[Tensor, "*batch k m d"],
        position: int,
        groups: int,
        scale: float | Tensor | None,
    ) -> Float[Tensor, "*batch h n m"] | None:
        """scale · β of all pairs, or None if they are not to be stored or cannot be computed from what is kept.

        The keys are those of the last `update`, `position` is that of the first query, and `groups` query heads share
        each key head.
        """
        if not are_few(query, groups) or not self._are_finite or not self.length:
            return None
        if not self._contents or any(content.is_unknown for content in self._contents):
            return None
        if anything_learns(query, keys, self.similarity, scale):
            return None
        with torch.no_grad():
            d = query.shape[-1]
            scores = [(own.term, own.scores(query, keys, groups)) for own in self._contents]
            scores += [(term, term.at(position).dense(query, keys)) for term in self._positions]
            own_scale = self.similarity.default_scale(d) if scale is None else per_head(scale)
            if type(self.similarity) is not Sum:
                return scores[0][1] * own_scale
            total = reduce(torch.add, [term.default_scale(d) * beta for term, beta in scores])
            return total if scale is None else total * own_scale


def average(
    scores: Float[Tensor, "*batch h n m"],
    normalization: Normalization,
    allowed: Mask | None,
    values: Float[Tensor, "*batch k m e"],
    groups: int,
) -> Float[Tensor, "*batch h n e"]:
    """Σ_j softmax_j(scores / temperature) v_j over the allowed keys, where `groups` query heads share each key head."""
    temperature = per_head(normalization.temperature)
    if isinstance(temperature, Tensor) or temperature != 1:
        scores = scores / temperature
    return _product_by_groups(weights_of_few(scores, allowed), values, groups)


def are_few(query: Float[Tensor, "*batch h n d"], groups: int) -> bool:
    """True if the scores of these queries may be stored, where `groups` of their heads share each key head."""
    return query.shape[-2] * groups <= _FEW and is_wide(query) and not is_autocast(query)


def is_row_softmax(normalization: Normalization) -> bool:
    """True if the weights of a query are the softmax of its scores, so that `average` serves."""
    return type(normalization) is Softmax and not normalization.uses_column_sums


class _Content:
    """A similarity of contents, with k' and b(k) of all keys so far."""

    def __init__(self, term: Similarity) -> None:
        self.term = term
        self.middle: Tensor | None = None  # subtracted from keys and queries, which does not change β
        self.k, self.bias = Growing("k'"), Growing("b")
        self.is_unknown = False

    def keep(self, keys: Tensor, anew: bool) -> None:
        """Compute and keep k' and b(k). With `anew` the keys are all keys, and the middle is computed again."""
        if anew:
            self.k, self.bias = Growing("k'"), Growing("b")
            self.middle = shift_for_precision(keys, None) if self.term.properties.translation_invariant else None
        keys = upcast(keys)
        moved = keys if self.middle is None else keys - self.middle
        factors = self.term.key_factors(moved)
        self.is_unknown = factors is None
        if factors is None:
            return
        if factors.k is not keys:
            self.k.append(factors.k)
        if factors.bias is not None:
            self.bias.append(factors.bias[..., None])

    def select(self, index: Tensor) -> None:
        self.middle = None if self.middle is None else self.middle.index_select(0, index.to(self.middle.device))
        self.k.select(index)
        self.bias.select(index)

    def scores(
        self, q: Float[Tensor, "*batch n d"], keys: Float[Tensor, "*batch m d"], groups: int
    ) -> Float[Tensor, "*batch n m"]:
        """β from ⟨q', k'⟩ + b(k), where `groups` query heads share each key head."""
        q = q if self.middle is None else q - _for_groups(self.middle, groups)
        left = self.term.query_factors(q)
        product = _product_by_groups(left, (self.k.all() if self.k.length else keys).mT, groups)
        if self.bias.length:
            product = product + _for_groups(self.bias.all().mT, groups)
        return self.term.of_product(product, q)


def _for_groups(x: Float[Tensor, "*batch h r w"], groups: int) -> Float[Tensor, "*batch g r w"]:
    """Repeat each key head for the query heads that share it."""
    return x if groups == 1 else x.repeat_interleave(groups, dim=-3)


def _product_by_groups(
    x: Float[Tensor, "*batch h n w"], y: Float[Tensor, "*batch k w m"], groups: int
) -> Float[Tensor, "*batch h n m"]:
    """x @ y, where `groups` matrices of x share each matrix of y, which is read only once for all of them."""
    if groups == 1:
        return x @ y
    return product(x.unflatten(-3, (-1, groups)), y.unsqueeze(-3)).flatten(-4, -3)

"""A cache of keys and values for queries that come a few at a time, as when a model generates tokens one by one."""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.errors import InputError
from limelight.heads import per_head
from limelight.heads_operator import heads_operator
from limelight.kernels.few import anything_learns, product, weights_of_few
from limelight.mask import Band, Mask, as_mask, causal
from limelight.normalization import Normalization, Softmax
from limelight.similarity import (
    Dot,
    Positional,
    Similarity,
    Sum,
    is_finite,
    is_wide,
    shift_for_precision,
    unscaled,
    upcast,
)

_FIRST = 64  # keys for which memory is allocated at first
_FEW = 16  # the scores of at most so many queries are stored


class KeyCache:
    """Attention(q, k₁ … k_m) @ v₁ … v_m, where keys and values are appended and the queries are the last positions.

    What a similarity needs from the keys alone (their norms, their directions, a learned φ of them) is computed once,
    when they are appended; then they are also checked to be finite. A call for a few queries reads keys and values
    once. The memory for them is doubled when it is full, so that appending m keys one by one copies O(m) numbers, while
    `torch.cat` copies O(m²).

    n queries are the last n of the m positions: query i is at position m − n + i, and `mask` (`causal` by default, or a
    `window`) says which keys it sees there. With `mask=None` every query sees every key, as in cross-attention. A
    similarity of positions (`Dot() + ALiBi(8)`) uses the same positions. The cache is for inference: keys and values
    have no gradient.

    Raises what `Attention` raises, and `InputError` for keys that need a gradient, keys and values that do not fit
    those before them, more queries than keys, and a normalization that mixes queries.

    >>> import torch
    >>> from limelight import Euclidean, KeyCache, attend
    >>> q, k, v = torch.randn(3, 8, 100, 64).unbind()
    >>> cache = KeyCache(Euclidean(8.0))
    >>> cache.append(k[:, :99], v[:, :99])  # a prompt
    >>> cache.append(k[:, 99:], v[:, 99:])  # the next token
    >>> out = cache.attend(q[:, 99:])
    >>> torch.allclose(out, attend(q, k, v, is_causal=True, similarity=Euclidean(8.0))[:, 99:], atol=1e-5)
    True
    """

    def __init__(
        self,
        similarity: Similarity = Dot(),
        normalization: Normalization = Softmax(),
        *,
        scale: float | Tensor | None = None,
        mask: Band | None = causal,
    ) -> None:
        check.instance("similarity", similarity, Similarity)
        check.instance("normalization", normalization, Normalization)
        if mask is not None and not isinstance(mask, Band):
            raise InputError(f"KeyCache(mask=…) expects causal, a window or None, got {mask!r}")
        if normalization.uses_column_sums:
            raise InputError(
                f"{normalization!r} needs all queries at once, and a KeyCache gets a few at a time; use Softmax()"
            )
        self.similarity, self.normalization, self.mask = similarity, normalization, mask
        self._scale = scale
        self._keys, self._values = _Growing("key"), _Growing("value")
        terms = similarity.parts_of_sum() if type(similarity) is Sum else [similarity]
        self._positions = [term for term in terms if isinstance(unscaled(term), Positional)]
        self._contents = [_Content(term) for term in terms if term not in self._positions]

    def __len__(self) -> int:
        """m, the number of keys."""
        return self._keys.length

    @property
    def keys(self) -> Float[Tensor, "*batch m d"]:
        """All keys so far, as they were appended."""
        return self._keys.all()

    @property
    def values(self) -> Float[Tensor, "*batch m e"]:
        """All values so far."""
        return self._values.all()

    def append(self, key: Float[Tensor, "*batch t d"], value: Float[Tensor, "*batch t e"]) -> None:
        """Append t keys and values."""
        check.operands(key, key, same_width=True)
        check.values("value", value, key.dtype, key.device, key.shape[-2], key.shape[:-2])
        if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad):
            raise InputError("a KeyCache keeps no gradients; append under torch.no_grad(), or append detached tensors")
        self._keys.require_fits(key)
        self._values.require_fits(value)
        if not is_finite(key):
            raise InputError(f"key has {int((~key.isfinite()).sum())} NaN or infinite of {key.numel()} entries")
        with torch.no_grad():
            grew = self._keys.append(key)
            self._values.append(value)
            for content in self._contents:
                content.keep(self.keys if grew else key, anew=grew)

    def crop(self, length: int) -> None:
        """Keep only the first `length` keys and values, for example when speculated tokens are rejected."""
        if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= len(self):
            raise InputError(f"crop(length) expects a whole number from 0 to {len(self)}, got {length!r}")
        for kept in (self._keys, self._values, *(x for content in self._contents for x in (content.k, content.bias))):
            kept.length = min(kept.length, length)

    def attend(
        self, query: Float[Tensor, "*batch n d"], mask: Mask | Tensor | None = None
    ) -> Float[Tensor, "*batch n e"]:
        """The outputs for n queries at the last n positions; queries may be (…, H, n, d) if keys are (…, H/g, m, d).

        If `mask` is given, it must allow a pair too: a boolean tensor that broadcasts to (…, n, m), or a `Mask` such as
        `padding(keys=…)`.
        """
        check.operands(query, self.keys, self.similarity.same_width)
        n, m = query.shape[-2], len(self)
        if self.mask is not None and n > m:
            raise InputError(f"got {n} queries for {m} positions, of which they are the last; append their keys first")
        allowed = None if mask is None else as_mask(mask)
        if self.mask is not None and not (n == 1 and self.mask.before is None and self.mask.after == 0):
            own = self.mask.at(m - n)
            allowed = own if allowed is None else allowed & own
        groups = self._groups(query)
        position = m - n if self.mask is not None else 0
        scores = self._scores_of_few(query, position, groups)
        if scores is not None:
            return self._average(scores, allowed, groups)
        return heads_operator(
            query, self.keys, self.similarity.at(position), self.normalization, allowed, scale=self._scale,
            grouped=groups > 1,
        ).apply(self.values)  # fmt: skip

    def _groups(self, query: Tensor) -> int:
        """The number of query heads that share one key head."""
        heads, key_heads = (x.shape[-3] if x.ndim > 2 else 1 for x in (query, self.keys))
        if heads % key_heads:
            raise InputError(
                f"the number of query heads must be a multiple of the cache's {key_heads} key heads, got {heads}"
            )
        return heads // key_heads

    def _scores_of_few(self, query: Tensor, position: int, groups: int) -> Float[Tensor, "*batch n m"] | None:
        """scale · β of all pairs, or None if they are not to be stored or cannot be computed from what is kept."""
        if query.shape[-2] * groups > _FEW or not is_wide(query) or type(self.normalization) is not Softmax:
            return None
        if not len(self) or not self._contents or any(content.is_unknown for content in self._contents):
            return None
        if anything_learns(query, self.keys, self.similarity, self._scale):
            return None
        with torch.no_grad():
            d = query.shape[-1]
            scores = [(own.term, own.scores(query, self.keys, groups)) for own in self._contents]
            scores += [(term, term.at(position).dense(query, self.keys)) for term in self._positions]
            own_scale = self.similarity.default_scale(d) if self._scale is None else per_head(self._scale)
            if type(self.similarity) is not Sum:
                return scores[0][1] * own_scale
            total = reduce(torch.add, [term.default_scale(d) * beta for term, beta in scores])
            return total if self._scale is None else total * own_scale

    def _average(self, scores: Tensor, allowed: Mask | None, groups: int) -> Tensor:
        temperature = per_head(self.normalization.temperature)
        if isinstance(temperature, Tensor) or temperature != 1:
            scores = scores / temperature
        return _product_by_groups(weights_of_few(scores, allowed), self.values, groups)


class _Content:
    """A similarity of contents, with k' and b(k) of all keys so far."""

    def __init__(self, term: Similarity) -> None:
        self.term = term
        self.middle: Tensor | None = None  # subtracted from keys and queries, which does not change β
        self.k, self.bias = _Growing("k'"), _Growing("b")
        self.is_unknown = False

    def keep(self, keys: Tensor, anew: bool) -> None:
        """Compute and keep k' and b(k). With `anew` the keys are all keys, and the middle is computed again."""
        if anew:
            self.k, self.bias = _Growing("k'"), _Growing("b")
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

    def scores(
        self, q: Float[Tensor, "*batch n d"], keys: Float[Tensor, "*batch m d"], groups: int
    ) -> Float[Tensor, "*batch n m"]:
        """⟨q', k'⟩ + b(k), where `groups` query heads share each key head."""
        q = self.term.query_factors(q if self.middle is None else q - _for_groups(self.middle, groups))
        scores = _product_by_groups(q, (self.k.all() if self.k.length else keys).mT, groups)
        return scores + _for_groups(self.bias.all().mT, groups) if self.bias.length else scores


class _Growing:
    """A tensor (*batch, length, width) to which rows are appended. It is a part of a larger buffer."""

    def __init__(self, name: str) -> None:
        self.name, self.length = name, 0
        self._buffer: Tensor | None = None

    def all(self) -> Tensor:
        if self._buffer is None:
            raise InputError("the cache holds no keys yet; append some first")
        return self._buffer[..., : self.length, :]

    def require_fits(self, rows: Tensor) -> None:
        """Raise `InputError` unless the rows have the shape, dtype and device of the earlier rows."""
        buffer = self._buffer
        if buffer is None:
            return
        mine, theirs = ((*x.shape[:-2], x.shape[-1], x.dtype, x.device) for x in (buffer, rows))
        if mine != theirs:
            expected = (*buffer.shape[:-2], "t", buffer.shape[-1])
            raise InputError(
                f"{self.name} expects {expected} in {buffer.dtype} on {buffer.device}, as the cache has it; got "
                f"{tuple(rows.shape)} in {rows.dtype} on {rows.device}"
            )

    def append(self, rows: Tensor) -> bool:
        """Append rows. Return True if a larger buffer had to be allocated."""
        length = self.length + rows.shape[-2]
        buffer = self._buffer
        grew = buffer is None or length > buffer.shape[-2]
        if buffer is None or grew:
            buffer = rows.new_empty(*rows.shape[:-2], max(2 * self.length, length, _FIRST), rows.shape[-1])
            if self.length:
                buffer[..., : self.length, :] = self.all()
        buffer[..., self.length : length, :] = rows
        self._buffer, self.length = buffer, length
        return grew


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

"""A cache of keys and values for queries that come a few at a time, as when a model generates tokens one by one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.errors import InputError
from limelight.growing import Growing
from limelight.heads import groups_of
from limelight.heads_operator import heads_operator
from limelight.kept_keys import KeptKeys, average, is_row_softmax
from limelight.mask import Band, Mask, as_mask, causal
from limelight.normalization import Normalization, Softmax
from limelight.plain import plain_attention
from limelight.similarity import Dot, Similarity, is_finite


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
        self._keys, self._values, self._kept = Growing("key"), Growing("value"), KeptKeys(similarity)

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
            self._keys.append(key)
            self._values.append(value)
        self._kept.update(self.keys)

    def crop(self, length: int) -> None:
        """Keep only the first `length` keys and values, for example when speculated tokens are rejected."""
        if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= len(self):
            raise InputError(f"crop(length) expects a whole number from 0 to {len(self)}, got {length!r}")
        self._keys.length = self._values.length = length
        self._kept.crop(length)

    def attend(
        self, query: Float[Tensor, "*batch n d"], mask: Mask | Tensor | None = None
    ) -> Float[Tensor, "*batch n e"]:
        """The outputs for n queries at the last n positions; queries may be (…, H, n, d) if keys are (…, H/g, m, d).

        If `mask` is given, it must allow a pair too: a boolean tensor that broadcasts to (…, n, m), or a `Mask` such as
        `padding(keys=…)`.
        """
        keys, values = self._keys.all(), self._values.all()
        if mask is None and type(self.similarity) is Dot and self._sees_all(query):  # nothing is kept of the keys
            out = plain_attention(query, keys, values, self.similarity, self.normalization, False, self._scale, True)
            if out is not None:
                return out
        check.operands(query, keys, self.similarity.same_width)
        n, m = query.shape[-2], len(self)
        if self.mask is not None and n > m:
            raise InputError(f"got {n} queries for {m} positions, of which they are the last; append their keys first")
        allowed = None if mask is None else as_mask(mask)
        if self.mask is not None and not self._sees_all(query):
            own = self.mask.at(m - n)
            allowed = own if allowed is None else allowed & own
        groups = self._groups(query, keys)
        position = m - n if self.mask is not None else 0
        scores = None
        if is_row_softmax(self.normalization) and is_finite(query):
            scores = self._kept.scores(query, keys, position, groups, self._scale)
        if scores is not None:
            return average(scores, self.normalization, allowed, values, groups)
        return heads_operator(
            query, keys, self.similarity.at(position), self.normalization, allowed, scale=self._scale,
            grouped=groups > 1,
        ).apply(values)  # fmt: skip

    def _sees_all(self, query: object) -> bool:
        """True if the cache's own mask hides no key from these queries."""
        if self.mask is None:
            return True
        is_last = isinstance(query, Tensor) and query.ndim > 1 and query.shape[-2] == 1
        return is_last and self.mask.before is None and self.mask.after == 0

    def _groups(self, query: Tensor, keys: Tensor) -> int:
        """The number of query heads that share one key head."""
        heads, key_heads = (x.shape[-3] if x.ndim > 2 else 1 for x in (query, keys))
        groups = groups_of(heads, key_heads)
        if groups is None:
            raise InputError(
                f"the number of query heads must be a multiple of the cache's {key_heads} key heads, got {heads}"
            )
        return groups

"""Masks given by tensors: which tokens are real, or to which document each token belongs."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.errors import DtypeError, InputError
from limelight.mask.base_mask import Mask, conjuncts, require_bool, require_device
from limelight.shapes import broadcast_shapes
from limelight.tracing import is_readable


class Padding(Mask):
    """Query i may see key j iff both are real tokens: queries[…, i] and keys[…, j].

    keys (*batch, m) and queries (*batch, n) are boolean, True = real; None = all are real.
    The batch dimensions are those of the scores, heads included: for (B, H, n, d) queries give
    (B, 1, m). With column normalization (α > 0, Sinkhorn) pass `queries` too in self-attention:
    padded queries would otherwise take part in the keys' normalizers.

    >>> import torch
    >>> from limelight import Attention, padding
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=padding(keys=torch.tensor([True, True, True, False]))).dense().round(decimals=2)
    tensor([[0.3300, 0.3300, 0.3300, 0.0000],
            [0.3300, 0.3300, 0.3300, 0.0000],
            [0.3300, 0.3300, 0.3300, 0.0000],
            [0.3300, 0.3300, 0.3300, 0.0000]])
    """

    def __init__(self, keys: Tensor | None = None, queries: Tensor | None = None) -> None:
        if keys is None and queries is None:
            raise InputError("padding expects keys=, queries= or both; got neither")
        for name, real in (("keys", keys), ("queries", queries)):
            if real is not None:
                require_bool(real, f"padding({name}=…)", least_dims=1)
        self.keys, self.queries = keys, queries

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        allowed = torch.ones(rows.stop - rows.start, cols.stop - cols.start, dtype=torch.bool, device=device)
        if self.keys is not None:
            allowed = allowed & self.keys[..., None, cols]
        if self.queries is not None:
            allowed = allowed & self.queries[..., rows, None]
        return allowed

    @property
    def T(self) -> Padding:
        return Padding(keys=self.queries, queries=self.keys)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shapes(*(r.shape[:-1] for r in (self.keys, self.queries) if r is not None))

    def check(self, n: int, m: int, device: torch.device) -> None:
        for name, real, length in (("keys", self.keys, m), ("queries", self.queries, n)):
            if real is None:
                continue
            require_device(real, device)
            if real.shape[-1] != length:
                raise InputError(f"padding({name}=…) expects (*batch, {length}), got {tuple(real.shape)}")

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        return False

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        if self.batch_shape:
            return None
        allowed = torch.ones_like(i, dtype=torch.bool)
        allowed = allowed if self.queries is None else allowed & self.queries[i]
        return allowed if self.keys is None else allowed & self.keys[j]

    def for_groups(self) -> Padding:
        return Padding(*(x if x is None or x.ndim < 2 else x.unsqueeze(-2) for x in (self.keys, self.queries)))

    def __repr__(self) -> str:
        return "padding"


padding = Padding


class Documents(Mask):
    """Query i may see key j iff both belong to one document: queries[…, i] = keys[…, j], whole numbers.

    It is for several sequences that are packed into one; keys default to queries. If the keys' numbers
    are sorted, as in a packed batch, the cost of a query is proportional to the length of its document.

    >>> import torch
    >>> from limelight import Attention, documents
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=documents(torch.tensor([0, 0, 1, 1]))).dense().round(decimals=2)
    tensor([[0.5000, 0.5000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.5000, 0.5000],
            [0.0000, 0.0000, 0.5000, 0.5000]])
    """

    def __init__(self, queries: Int[Tensor, "*#batch n"], keys: Int[Tensor, "*#batch m"] | None = None) -> None:
        keys = queries if keys is None else keys
        for name, ids in (("queries", queries), ("keys", keys)):
            if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool or ids.ndim < 1:
                came = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
                raise DtypeError(f"documents({name}=…) expects whole numbers (*batch, length), got {came}")
        self.queries, self.keys = queries, keys
        self._sorted = is_readable(keys) and bool((keys[..., 1:] >= keys[..., :-1]).all())

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        return self.queries[..., rows, None] == self.keys[..., None, cols]

    @property
    def T(self) -> Documents:
        return Documents(self.keys, self.queries)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shapes(self.queries.shape[:-1], self.keys.shape[:-1])

    def span(self, rows: slice, m: int) -> slice:
        if not self._sorted or rows.stop <= rows.start or m == 0:
            return slice(0, m)
        # The keys' numbers are sorted, so the keys of these queries' documents lie in one range: from the first that is
        # not below the least of the queries' numbers to the last that is not above the largest. Bisection finds both
        # ends, and the range of a batch covers those of all its sequences.
        some, keys = self.queries[..., rows], self.keys
        batch = broadcast_shapes(some.shape[:-1], keys.shape[:-1])
        keys = keys.expand(*batch, m).contiguous()
        low, high = (x.expand(batch)[..., None].contiguous() for x in (some.amin(-1), some.amax(-1)))
        start = int(torch.searchsorted(keys, low).min())
        stop = int(torch.searchsorted(keys, high, right=True).max())
        return slice(min(start, stop), stop)

    def check(self, n: int, m: int, device: torch.device) -> None:
        for name, ids, length in (("queries", self.queries, n), ("keys", self.keys, m)):
            require_device(ids, device)
            if ids.shape[-1] != length:
                raise InputError(f"documents({name}=…) expects (*batch, {length}), got {tuple(ids.shape)}")

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        return False

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        return None if self.batch_shape else self.queries[i] == self.keys[j]

    def for_groups(self) -> Documents:
        return Documents(*(x if x.ndim < 2 else x.unsqueeze(-2) for x in (self.queries, self.keys)))

    def __repr__(self) -> str:
        return "documents"


documents = Documents


def real_keys(mask: Mask | None) -> Bool[Tensor, "*#batch m"] | None:
    """True for each key that padding does not hide, (*#batch, m), or None if the mask has no key padding."""
    real = None
    for part in conjuncts(mask):
        if isinstance(part, Padding) and part.keys is not None:
            real = part.keys if real is None else real & part.keys
    return real

"""The k largest numbers of each row, faster than `torch.topk` where rows are long and k is small."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GROUP = 8
_LEAST_GROUPS = 4  # groups for each of the k numbers; with fewer, `torch.topk` is used


def topk(s: Float[Tensor, "*batch r m"], k: int) -> tuple[Float[Tensor, "*batch r k"], Int[Tensor, "*batch r k"]]:
    """(values, indices) of the k largest numbers of each row, largest first; among equal ones any may be chosen.

    A row is cut into groups of eight. The k largest numbers lie in the k groups with the largest maxima: a number
    outside them is no larger than k others, those maxima. So only k groups are searched, and finding the maxima of
    groups is one fast pass over the row.
    """
    if torch.compiler.is_compiling() or s.shape[-1] % _GROUP or s.shape[-1] < _GROUP * _LEAST_GROUPS * k:
        values, indices = s.topk(k, -1)
        return values, indices
    groups = s.shape[-1] // _GROUP
    # The maxima are taken along a dimension that is not the last: eight rows of `groups` numbers each, compared entry
    # by entry, which is as fast as memory is read.
    grouped = s.unflatten(-1, (_GROUP, groups))  # a group is every `groups`-th number, so that maxima are of columns
    best = grouped.amax(-2).topk(k, -1, sorted=False).indices
    candidates = grouped.gather(-1, best[..., None, :].expand(*best.shape[:-1], _GROUP, k))
    values, at = candidates.flatten(-2).topk(k, -1)
    return values, (at // k) * groups + best.gather(-1, at % k)

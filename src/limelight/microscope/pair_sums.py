"""What the measures need of all pairs of a query and a key, in one pass over the tiles of P, which is never stored.

A tile holds the scores of some queries and some keys for all heads of a layer, few enough numbers for the cache. Its
scores s, its weights p = exp(s − L) and their sums over rows and columns are computed there; only the sums are kept.
Tiles that the mask hides are left out, so that a causal mask costs half of all pairs. The normalizers L are known
before, from one fused pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight.attention import Attention
from limelight.microscope.head_inputs import layer_scores
from limelight.normalization import Softmax, SoftmaxWithSink
from limelight.similarity import Dot

if TYPE_CHECKING:
    from limelight.microscope.watched_attention import WatchedAttention

_ENTRIES = 1 << 18  # entries of a tile over all heads: 1 MB as float32
_WIDTH = 256  # keys of a tile
_FINE = 64.0  # below this, float32 distinguishes numbers that differ by 4e-6
_LN2 = math.log(2)


@dataclass
class PairSums:
    """Sums over the pairs of queries i and keys j of each head, in at least float32.

    `weight` Σ_j P_ij is less than 1 with a learned sink; p_i is P_i divided by it. `entropy` is −Σ_j p_ij log p_ij,
    `distance` Σ_j p_ij |i − j|, and `moved` |Σ_j p_ij k_j − k_i|²; both are 0 where queries have no position among the
    keys. `around` is Σ_j p_ij |k_j − Σ_l p_il k_l|². `mass` is Σ_i P_ij and `products` Σ_ij P_ij P'_ij for two heads.
    Over the keys that query i sees, whose number is `seen`, `gained` is log Σ_j exp s_ij − log `seen` − s̄_i,
    `score_spread` is Σ_j (s_ij − s̄_i)², `norm_spread` is Σ_j (b_j − b̄_i)² with b_j = |k_j|², and `together` is
    Σ_j (s_ij − s̄_i)(b_j − b̄_i); `seen` and these three are in float64.
    """

    weight: Float[Tensor, "*heads n"]
    entropy: Float[Tensor, "*heads n"]
    distance: Float[Tensor, "*heads n"]
    moved: Float[Tensor, "*heads n"]
    around: Float[Tensor, "*heads n"]
    gained: Float[Tensor, "*heads n"]
    mass: Float[Tensor, "*heads m"]
    products: Float[Tensor, "heads heads"]
    seen: Float[Tensor, "*heads n"]
    score_spread: Float[Tensor, "*heads n"]
    norm_spread: Float[Tensor, "*heads n"]
    together: Float[Tensor, "*heads n"]


@torch.no_grad()
def pair_sums(P: WatchedAttention) -> PairSums:
    """All of them, in memory linear in the tokens."""
    one = _Pass(P)
    for rows in one.row_blocks():
        one.take(rows)
    for name, value in vars(one.sums).items():
        if name != "products":
            setattr(one.sums, name, value.reshape(*P.shape[:-2], -1))
    return one.sums


class _Pass:
    """One pass over the tiles; `x`, `y` and `lse` give log₂ P_ij = ⟨x_i, y_j⟩ − lse_i where nothing else is added."""

    def __init__(self, P: WatchedAttention) -> None:
        self.P, (n, m) = P, P.shape[-2:]
        q, k = P.q.reshape(-1, n, P.q.shape[-1]), P.k.reshape(-1, m, P.k.shape[-1])
        # What all keys share adds the same to all scores of a query. It changes no weight and no variance, but would
        # cost digits, so it is taken away. A cap acts on the whole score, and then it has to stay.
        center = k.mean(-2, keepdim=True) if P.softcap is None else torch.zeros_like(k[:, :1])
        self.x, norms = q * (P.scale / _LN2), k.square().sum(-1)
        norms = norms - norms.mean(-1, keepdim=True)
        self.powers = torch.stack([torch.ones_like(norms), norms, norms.square()], -1)  # of b_j, about its mean
        self.lse = _normalizers(P, q, k - center, P.scale * (q @ center.mT)[..., 0])[..., None] / _LN2
        self.y = (k - center).contiguous()
        self.lengths = self.y.square().sum(-1, keepdim=True)
        self.at = None if P.positions is None else P.positions.to(k.device)
        self.places = torch.arange(m, device=k.device).to(k)
        self.sums = self._zeros(len(q), n, m)
        self.step = max(1, _ENTRIES // (len(q) * _WIDTH))
        self.room = [
            self.x.new_empty(len(q) * min(self.step, n) * min(_WIDTH, m)) for _ in range(3)
        ]  # of s, p, and products

    def _zeros(self, heads: int, n: int, m: int) -> PairSums:
        def zeros(*shape: int, dtype: torch.dtype = self.x.dtype) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=self.x.device)

        weight, entropy, distance, moved, around, gained = zeros(6, heads, n)
        seen, *spreads = zeros(4, heads, n, dtype=torch.float64)
        return PairSums(
            weight,
            entropy,
            distance,
            moved,
            around,
            gained,
            zeros(heads, m),
            zeros(heads, heads),
            seen,
            spreads[0],
            spreads[1],
            spreads[2],
        )

    def row_blocks(self) -> Iterator[slice]:
        n, step = self.x.shape[1], self.step
        return (slice(top, min(top + step, n)) for top in range(0, n, step))

    def take(self, rows: slice) -> None:
        """Add the tiles of these rows to the sums over columns, and set the sums over these rows."""
        heads, m, size = len(self.x), self.P.shape[-1], rows.stop - rows.start
        mixed = self.x.new_zeros(heads, size, self.y.shape[-1])  # Σ_j p_ij k_j
        sums = self.x.new_zeros(4, heads, size)  # Σ_j of p_ij, −p_ij log₂ p_ij, p_ij |i − j| and p_ij |k_j|²
        moments = torch.zeros(6, heads, size, dtype=torch.float64, device=self.x.device)
        span = slice(0, m) if self.P.mask is None else self.P.mask.span(rows, m)
        for left in range(span.start, span.stop, _WIDTH):
            cols = slice(left, min(left + _WIDTH, span.stop))
            s, p, room = (x[: heads * size * (cols.stop - left)].view(heads, size, -1) for x in self.room)
            allowed = self._scores(s, rows, cols)
            moments += self._moments(s, room, allowed, cols)
            torch.exp2(s.sub_(self.lse[:, rows]), out=p)
            if allowed is not None:
                p.masked_fill_(~allowed, 0)
            sums[0] += p.sum(-1)
            sums[1] -= torch.mul(s, p, out=room).sum(-1)
            if self.at is not None:
                away = (self.places[self.at[rows], None] - self.places[cols]).abs_()
                sums[2] += torch.mul(p, away, out=room).sum(-1)
            sums[3] += torch.bmm(p, self.lengths[:, cols])[..., 0]
            self.sums.mass[:, cols] += p.sum(-2)
            self.sums.products.addmm_(p.flatten(1), p.flatten(1).mT)
            mixed.baddbmm_(p, self.y[:, cols])
        self._set(rows, mixed, sums, moments)

    def _scores(self, s: Tensor, rows: slice, cols: slice) -> Bool[Tensor, "#H r c"] | None:
        """Which keys of a tile are seen, None for all. Writes the scores in units of log 2 into s, 0 for the others."""
        P = self.P
        torch.bmm(self.x[:, rows], self.y[:, cols].mT, out=s)
        if P.softcap is not None:
            s.mul_(_LN2 / P.softcap).tanh_().mul_(P.softcap / _LN2)
        if P.bias is not None:
            s += P.bias.block(rows, cols).to(s) / _LN2
        allowed = None if P.mask is None else P.mask.block(rows, cols, s.device)
        if allowed is None or bool(allowed.all()):
            return None
        s.masked_fill_(~allowed, 0)
        return allowed

    def _moments(self, s: Tensor, room: Tensor, allowed: Tensor | None, cols: slice) -> Float[Tensor, "6 H r"]:
        """Of the keys of a tile that are seen: their number, Σ s, Σ s², Σ s b, Σ b and Σ b²."""
        powers = self.powers[:, cols]
        squares, together = (torch.mul(s, x, out=room).sum(-1) for x in (s, powers[:, None, :, 1]))
        of_keys = (
            powers.sum(-2, keepdim=True).expand(-1, s.shape[-2], -1) if allowed is None else allowed.to(s) @ powers
        )
        count, *of_norms = of_keys.unbind(-1)
        return torch.stack([count, s.sum(-1), squares, together, *of_norms]).double()

    def _set(self, rows: slice, mixed: Tensor, own: Tensor, moments: Tensor) -> None:
        sums, (weight, surprise, distance, lengths) = self.sums, own
        sums.weight[:, rows] = weight
        sums.entropy[:, rows] = _LN2 * surprise / weight + weight.log()  # of p, also where L is rounded or has a sink
        mean = mixed / weight[..., None]
        sums.around[:, rows] = (lengths / weight - mean.square().sum(-1)).clamp(min=0)
        if self.at is not None:
            sums.distance[:, rows] = distance / weight
            sums.moved[:, rows] = (mean - self.y[:, self.at[rows]]).square().sum(-1)
        count, s, ss, sb, b, bb = moments
        sums.gained[:, rows] = self.lse[:, rows, 0] * _LN2 + (weight.log() - s / count * _LN2 - count.log())
        sums.seen[:, rows] = count
        sums.score_spread[:, rows] = (ss - s * s / count) * _LN2**2
        sums.norm_spread[:, rows] = bb - b * b / count
        sums.together[:, rows] = (sb - s * b / count) * _LN2


def _normalizers(P: WatchedAttention, q: Tensor, k: Tensor, shift: Tensor) -> Float[Tensor, "H n"]:
    """L_i − shift_i, the normalizers of the scores of the centered keys k; computed again where rounding would show."""
    lse = P.logsumexp().reshape(shift.shape)
    if P.softcap is not None or float(torch.maximum(lse.abs().max(), shift.abs().max())) < _FINE:
        return lse - shift
    similarity, scale = layer_scores(Dot(), P.scale, None, P.bias, q.dtype)
    normalization = (
        Softmax() if P.sinks is None else SoftmaxWithSink((P.sinks.to(q).expand_as(shift) - shift)[..., None])
    )
    shape = P.shape[:-2]
    with torch.autocast(q.device.type, enabled=False):
        A = Attention(
            q.reshape(*shape, *q.shape[1:]), k.reshape(*shape, *k.shape[1:]), similarity, normalization, P.mask, scale
        )
    return A.logsumexp().reshape(shift.shape)

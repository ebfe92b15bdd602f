"""The attention of a layer, or of one of its heads, on one text: P as an operator, with everything the layer adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.attention import Attention
from limelight.linear_operator import LinearOperator
from limelight.mask import Band, Boolean, Mask
from limelight.mask.visible_keys import count_visible
from limelight.microscope.call import Call, key_heads, sinks_of
from limelight.microscope.head_inputs import layer_scores
from limelight.microscope.pair_bias import PairBias
from limelight.microscope.pair_sums import PairSums, pair_sums
from limelight.microscope.random_walk import STEPS, second_eigenvalue
from limelight.normalization import Softmax, SoftmaxWithSink
from limelight.similarity import Dot, upcast
from limelight.weights import TopKWeights, Weights

_NUMBERS = 1 << 21  # numbers of pairs or rows that are computed at a time
_STORED = 1 << 24  # numbers of the weights of all heads that may be stored for a while: 64 MB


@dataclass(frozen=True)
class Place:
    """Where an attention was seen: the layer's index and name, the head (None for all), the text and the step."""

    layer: int
    name: str
    kind: str
    head: int | None
    text: int
    step: int


class WatchedAttention(LinearOperator):
    """P_ij = exp(s_ij − L_i),  s_ij = cap(scale · ⟨q_i, k_j⟩) + b_ij,  L_i = log(Σ_j exp s_ij + exp sink).

    One head (n, m), or all heads of a layer (heads, n, m), on one text without its padding; P is never stored. q and k
    are the layer's own, as they entered its softmax: after rotary positions, normalization and the cache. Half
    precision is raised to float32. `attention` is the same operator as an `Attention`, for everything that one can do.

    `positions` (n,) says at which key each query stands, and is None in cross-attention. `ids` (m,) are the tokens of
    the keys, None if they are unknown, and `separators` are those that separate or end texts. `has_first` is False if
    the first token of the text is no longer among the keys. Queries that see no key are left out. `output_map()` are
    W_V W_O of each head (heads, e, e), from the layer's weights, or None if they are unknown. `lse` is L, if it is
    known already.

    >>> import torch
    >>> from limelight import microscope
    >>> layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = torch.randn(1, 5, 8)
    >>> with microscope.attach(layer) as scope:
    ...     out = layer(x, x, x)
    >>> P = scope[0, 1]
    >>> P.shape, P.entropy().shape, torch.allclose(P.dense().sum(-1), torch.ones(5))
    ((5, 5), torch.Size([5]), True)
    """

    def __init__(
        self,
        q: Float[Tensor, "*heads n d"],
        k: Float[Tensor, "*heads m d"],
        *,
        scale: float,
        mask: Mask | None = None,
        softcap: float | None = None,
        sinks: Float[Tensor, "*heads #n"] | None = None,
        bias: PairBias | None = None,
        positions: Int[Tensor, " n"] | None = None,
        ids: Int[Tensor, " m"] | None = None,
        separators: frozenset[int] = frozenset(),
        has_first: bool = True,
        place: Place | None = None,
        output_map: Callable[[], Float[Tensor, "*heads e e"] | None] = lambda: None,
        lse: Float[Tensor, "*heads n"] | None = None,
    ) -> None:
        self.q, self.k = q, k = upcast(q), upcast(k)
        self.scale, self.mask, self.softcap = scale, mask, softcap
        self.bias, self.positions, self.has_first, self.place = bias, positions, has_first, place
        self.ids, self.separators, self.sinks, self._known_lse = ids, separators, sinks, lse
        self.output_map = output_map
        similarity, own_scale = layer_scores(Dot(), scale, softcap, bias, q.dtype)
        normalization = Softmax() if sinks is None else SoftmaxWithSink(sinks.to(q.dtype)[..., None])
        with torch.autocast(q.device.type, enabled=False):
            self.attention = Attention(q, k, similarity, normalization, mask, own_scale)
        self.shape = self.attention.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.q.dtype

    @property
    def device(self) -> torch.device:
        return self.q.device

    def _apply(self, v: Tensor) -> Tensor:
        return self.attention @ v

    def _apply_transposed(self, w: Tensor) -> Tensor:
        return self.attention.T @ w

    def apply_with_logsumexp(
        self, v: Float[Tensor, "*heads m e"]
    ) -> tuple[Float[Tensor, "*heads n e"], Float[Tensor, "*heads n"]]:
        """(P v, L) in one pass over the keys."""
        return self.attention.apply_with_logsumexp(v)

    def logsumexp(self) -> Float[Tensor, "*heads n"]:
        """L_i = log(Σ_j exp s_ij + exp sink), so that P_ij = exp(s_ij − L_i); without a sink its term is missing."""
        return self._lse

    @cached_property
    def _lse(self) -> Float[Tensor, "*heads n"]:
        return self.attention.logsumexp() if self._known_lse is None else self._known_lse

    @cached_property
    def sums(self) -> PairSums:
        """Entropies, column masses and the other sums over pairs that the measures share, from one pass over P."""
        return pair_sums(self)

    @cached_property
    def second_eigenvalue(self) -> Float[Tensor, "*heads"]:
        """|λ₂| of the weights of each query divided by their sum: how slowly a walk by them forgets its start.

        Of at least two tokens, each of which is a query and a key. Where no token sees a later one it is the largest
        p_ii of a token other than the first. Elsewhere it is found from `STEPS` products with P, and of a long text,
        whose P is not stored, from a third of them.
        """
        weight, n = self.sums.weight.unsqueeze(-1), self.shape[-1]
        if self.mask is not None and _sees_no_later_one(self.mask):
            at = torch.arange(1, n, device=self.device)
            return (self.weights_at(at, at) / weight[..., 1:, 0]).amax(-1).clamp(max=1)  # but for rounding
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(n, 1, dtype=torch.float64, generator=generator).to(self.q).expand(weight.shape)
        is_short = weight.numel() * n <= _STORED
        P = self.dense() if is_short else self.attention
        found = second_eigenvalue(
            lambda v: (P @ v.view(weight.shape) / weight).reshape(-1, n, 1),
            start.reshape(-1, n, 1),
            STEPS if is_short else STEPS // 3,
        )
        return found.view(self.shape[:-2])

    def entropy(self) -> Float[Tensor, "*heads n"]:
        """−Σ_j p_ij log p_ij in nats, where p_i are the weights of query i divided by their sum."""
        return self.attention.entropy()

    def column_mass(self) -> Float[Tensor, "*heads m"]:
        """Σ_i P_ij: the weight that all queries together give key j."""
        return self.attention.column_mass()

    def taken_by_sink(self) -> Float[Tensor, "*heads n"]:
        """1 − Σ_j P_ij: the share of each query's weight that the layer's learned sink takes; 0 without a sink."""
        if not isinstance(self.attention.normalization, SoftmaxWithSink):
            return torch.zeros(self.shape[:-1], dtype=self.dtype, device=self.device)
        return 1 - self.sums.weight

    def topk(self, k: int) -> TopKWeights:
        """The k largest weights of each query and their keys, largest first; as `Attention.topk`."""
        return self.attention.topk(k)

    def dense(self) -> Float[Tensor, "*heads n m"]:
        """The matrix P, for pictures and short texts."""
        return self.attention.dense()

    def weights_at(self, i: Int[Tensor, " pairs"], j: Int[Tensor, " pairs"]) -> Float[Tensor, "*heads pairs"]:
        """P_ij of some pairs, in time linear in their number: exp(s_ij − L_i), with one product for each pair."""
        i, j = i.to(self.device), j.to(self.device)
        size = max(1, _NUMBERS // max(1, self.q[..., 0, :].numel()))
        parts = [self._weights_at(a, b) for a, b in zip(i.split(size), j.split(size), strict=True)]
        return torch.cat(parts, -1) if parts else self.q.new_zeros(*self.shape[:-2], 0)

    def _weights_at(self, i: Tensor, j: Tensor) -> Tensor:
        s = self.scale * (self.q[..., i, :] * self.k[..., j, :]).sum(-1)
        if self.softcap is not None:
            s = self.softcap * (s / self.softcap).tanh()
        if self.bias is not None:
            added = self.bias.at(i, j)
            s = s + (added if s.ndim > 1 else added[0])
        weights = (s - self._lse[..., i]).exp()
        seen = self._seen(i, j)
        return weights if seen is None else weights * seen

    def _seen(self, i: Tensor, j: Tensor) -> Tensor | None:
        """Which of these pairs the mask allows; None for all."""
        if self.mask is None:
            return None
        if isinstance(self.mask, Boolean):
            return self.mask.allowed[..., i, j]
        return self.mask.pairs(i, j)

    def rows(self) -> Iterator[slice]:
        """Slices of the queries, small enough that the weights of each fit into a few megabytes."""
        n, m = self.shape[-2:]
        step = max(1, _NUMBERS // max(1, m * self.q[..., 0, 0].numel()))
        return (slice(start, min(start + step, n)) for start in range(0, n, step))

    def block(self, rows: slice) -> Float[Tensor, "*heads r m"]:
        """These rows of P. A measure that needs whole rows goes through `rows()` and takes one block at a time."""
        return self._by_rows.block(rows).expand(*self.shape[:-2], -1, -1)

    def scores(self, rows: slice) -> Float[Tensor, "*heads r m"]:
        """These rows of the scores s_ij, −∞ where the mask hides a key."""
        return self._by_rows.scores.block(rows).expand(*self.shape[:-2], -1, -1)

    @cached_property
    def _by_rows(self) -> Weights:
        return self.attention.weights().for_rows()

    def seen_by(self) -> Float[Tensor, "*#heads m"]:
        """How many queries see each key."""
        n, m = self.shape[-2:]
        if self.mask is None:
            return torch.full((m,), float(n), device=self.device)
        return count_visible(self.mask.T, m, n, self.device).float()

    @property
    def is_cross(self) -> bool:
        """True if queries and keys are tokens of different texts."""
        return self.positions is None

    @property
    def heads(self) -> int | None:
        """The number of heads of a layer, or None for one head."""
        return self.shape[0] if len(self.shape) == 3 else None

    def __repr__(self) -> str:
        at = "" if self.place is None else f"{self.place.name}, "
        head = "" if self.place is None or self.place.head is None else f"head {self.place.head}, "
        return f"WatchedAttention({at}{head}{self.shape})"


def watched(
    call: Call,
    layer: int,
    text: int,
    head: int | None = None,
    separators: frozenset[int] = frozenset(),
    output_map: Callable[[], Tensor | None] = lambda: None,
) -> WatchedAttention:
    """The attention of a call on one text: of all heads, or of one."""
    visible, bias = call.texts[text], call.biases[text]
    device = call.query.device
    queries, keys = visible.queries.to(device), visible.keys.to(device)
    q, k = call.query[text][:, queries], key_heads(call.key[min(text, len(call.key) - 1)], call.heads)[:, keys]
    sinks, mask, lse = sinks_of(call.sinks, text, queries), visible.mask, call.normalizers.get(text)
    ids = None if call.ids is None else call.ids[min(text, len(call.ids) - 1)].to(visible.keys.device)[visible.keys]
    if head is not None:
        q, k, bias = q[head], k[head], None if bias is None else bias.head(head)
        sinks = None if sinks is None else sinks[head]
        lse = None if lse is None else lse[head]
        if isinstance(mask, Boolean) and mask.allowed.ndim == 3:
            mask = Boolean(mask.allowed[head])
    return WatchedAttention(
        q,
        k,
        scale=call.scale,
        mask=mask,
        softcap=call.softcap,
        sinks=sinks,
        bias=bias,
        positions=visible.positions,
        ids=ids,
        separators=separators,
        has_first=call.has_first,
        place=Place(layer, call.layer, call.kind, head, text, call.step),
        output_map=output_map if head is None else lambda: _of_head(output_map(), head),
        lse=lse,
    )


def _sees_no_later_one(mask: Mask) -> bool:
    """True if no query sees a key after it."""
    if isinstance(mask, Boolean):
        return not bool(mask.allowed.triu(1).any())
    return isinstance(mask, Band) and mask.after is not None and mask.after <= 0


def _of_head(maps: Tensor | None, head: int) -> Tensor | None:
    return None if maps is None else maps[head]

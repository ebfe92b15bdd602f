"""Everything that the output of some heads on one text depends on: what an intervention gets, and returns changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.mask import Mask
from limelight.microscope.pair_bias import PairBias
from limelight.normalization import Normalization, Softmax, SoftmaxWithSink
from limelight.similarity import Dot, Positional, Scaled, Similarity, SoftCap, Sum, upcast


@dataclass(frozen=True)
class HeadInputs:
    """P_ij = normalization_j(s_ij / temperature),  s_ij = cap(scale · β(q_i, k_j)) + b_ij, and the values v_j.

    q (heads, n, d), k (heads, m, d) and v (heads, m, e) of some heads of a layer on one text without its padding.
    `scale` is the model's and is used with the dot product; another similarity keeps its own. `sinks` (heads, 1) or
    (heads, n) are the logits of learned sinks. `positions` (n,) says at which key each query stands, None in
    cross-attention. `has_first` is False if the first token of the text is no longer among the keys. `where` names
    the layer in errors.
    """

    q: Float[Tensor, "heads n d"]
    k: Float[Tensor, "heads m d"]
    v: Float[Tensor, "heads m e"]
    scale: float
    mask: Mask | None = None
    softcap: float | None = None
    sinks: Float[Tensor, "*heads #n"] | None = None
    bias: PairBias | None = None
    positions: Int[Tensor, " n"] | None = None
    has_first: bool = True
    similarity: Similarity = Dot()
    normalization: Normalization = Softmax()
    temperature: float = 1.0
    where: str = ""

    def changed(self, **parts: Any) -> HeadInputs:
        """A copy in which these fields have other values."""
        return replace(self, **parts)

    def attention(self) -> Attention:
        """P of all these heads, an operator that is never stored. Half precision is raised to float32."""
        q, k = upcast(self.q), upcast(self.k)
        own = self.scale if isinstance(self.similarity, Dot) else self.similarity.default_scale(q.shape[-1])
        similarity, scale = layer_scores(self.similarity, own, self.softcap, self.bias, q.dtype)
        with torch.autocast(q.device.type, enabled=False):
            return Attention(q, k, similarity, self._normalization(q.dtype), self.mask, scale / self.temperature)

    def output(self) -> Float[Tensor, "heads n e"]:
        """P v."""
        P = self.attention()
        with torch.autocast(self.q.device.type, enabled=False):
            return (P @ self.v.to(P.dtype)).to(self.v.dtype)

    def _normalization(self, dtype: torch.dtype) -> Normalization:
        if self.sinks is None:
            return self.normalization
        if not isinstance(self.normalization, Softmax) or self.normalization.uses_column_sums:
            raise InputError(
                f"{self.where} has learned sinks, which need a softmax over keys, and {self.normalization!r} is none; "
                "add WithoutSinks(), which removes them, or choose other heads"
            )
        return SoftmaxWithSink(self.sinks.to(dtype)[..., None] / self.temperature)

    def require_whole(self, what: str) -> None:
        """Raise `InputError` unless the queries are all tokens of the text whose keys they see."""
        if self.positions is None:
            raise InputError(
                f"{what} mixes queries, and those of the cross-attention {self.where} may be tokens that are still to "
                "be written; choose heads of an encoder's self-attention"
            )
        _require_all(self.q, self.k, what, self.where)

    def require_positions(self) -> None:
        """Raise `InputError` for a similarity of positions if the queries' positions are not those of the keys."""
        if any(isinstance(part, Positional) for part in self.similarity.modules()):
            _require_all(self.q, self.k, type(self.similarity).__name__, self.where)


def layer_scores(
    similarity: Similarity, scale: float | Tensor, softcap: float | None, bias: PairBias | None, dtype: torch.dtype
) -> tuple[Similarity, float | Tensor]:
    """cap(scale · β) + b as one similarity, and the scale that still multiplies it."""
    if softcap is not None:
        similarity, scale = SoftCap(similarity, softcap, scale), 1.0
    if bias is not None:
        similarity, scale = Sum(Scaled(similarity, scale), bias.similarity(dtype)), 1.0
    return similarity, scale


def _require_all(q: Tensor, k: Tensor, what: str, where: str) -> None:
    n, m = q.shape[-2], k.shape[-2]
    if n != m:
        raise InputError(
            f"{what} needs all queries of a text at once, and {where} got {n} for {m} keys; "
            "call the model on the whole text, without a cache"
        )

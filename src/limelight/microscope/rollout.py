"""Attention rollout: what each token has got from each token of the text after several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.linear_operator import LinearOperator
from limelight.microscope.watched_attention import WatchedAttention


class Rollout(LinearOperator):
    """R = A_L ⋯ A_2 A_1,  A_l = (1 − r) · mean_h P_lh + r · 1: a matrix that is never stored.

    R_ij is the share of token j in what token i holds after these layers, if each one took the mean of its heads and
    a share r of what was there before, as a residual connection does (Abnar and Zuidema 2020, 2005.00928, take r = ½).
    `R.T @ one` for a `one` (n, 1) that is 1 at token i gives the row of token i, in as many products as there are
    layers.

    `layers` are all heads of some self-attention layers on one text, the first one first, as `scope[layer]` gives them.
    Raises `InputError` for no layer, for cross-attention or a step with a cache, for layers of different texts, and
    for r outside [0, 1].

    >>> import torch
    >>> from limelight import microscope
    >>> encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, batch_first=True), 3).eval()
    >>> with torch.no_grad(), microscope.attach(encoder) as scope:
    ...     out = encoder(torch.randn(1, 5, 8))
    >>> R = microscope.Rollout([scope[layer] for layer in range(3)])
    >>> R.shape, torch.allclose(R @ torch.ones(5, 1), torch.ones(5, 1))
    ((5, 5), True)
    """

    def __init__(self, layers: Sequence[WatchedAttention], residual: float = 0.5) -> None:
        if isinstance(residual, bool) or not isinstance(residual, (int, float)) or not 0 <= residual <= 1:
            raise InputError(f"Rollout(residual=…) expects a share from 0 to 1, got {residual!r}")
        self.layers, self.residual = tuple(layers), float(residual)
        if not self.layers:
            raise InputError("Rollout expects at least one layer, as [scope[0], scope[1]]; got none")
        for P in self.layers:
            _require_square(P, self.layers[0])
        self.shape = self.layers[0].shape[-2:]

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].dtype

    @property
    def device(self) -> torch.device:
        return self.layers[0].device

    def _apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        for P in self.layers:
            v = (1 - self.residual) * (P @ v).mean(0) + self.residual * v
        return v

    def _apply_transposed(self, w: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        for P in reversed(self.layers):
            w = (1 - self.residual) * (P.T @ w).mean(0) + self.residual * w
        return w

    def __repr__(self) -> str:
        return f"Rollout({len(self.layers)} layers, {self.shape})"


def _require_square(P: WatchedAttention, first: WatchedAttention) -> None:
    if not isinstance(P, WatchedAttention) or P.heads is None:
        raise InputError(f"Rollout expects all heads of each layer, as scope[0]; got {P!r}")
    if P.is_cross or P.shape[-2] != P.shape[-1]:
        raise InputError(
            f"Rollout expects layers in which each token is a query and a key, got {P!r}; choose self-attention layers "
            "of a text that is read at once"
        )
    same_ids = P.ids is None or first.ids is None or torch.equal(P.ids, first.ids)
    if P.shape[-2:] != first.shape[-2:] or not same_ids:
        raise InputError(f"Rollout expects layers of one text, got {first!r} and {P!r}; choose layers of one text")

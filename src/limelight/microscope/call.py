"""What is kept of one call of one attention layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.microscope.pair_bias import PairBias
from limelight.microscope.text_mask import Visible


@dataclass
class Keys:
    """The keys of a layer, shared by the calls of a generation: each call sees more of them than the one before.

    A cache makes a new tensor for each token, so T tokens would keep T tensors. A call therefore keeps how many keys it
    saw, and when the keys of a later call begin with the same numbers, all share the later tensor.
    """

    tensor: Float[Tensor, "B Hk m d"]

    def after(self, key: Float[Tensor, "B Hk m d"], new: int) -> tuple[Keys, bool]:
        """(the keys of the next call, True if all but the last `new` of them are the last ones of these).

        A cache with a window drops the first keys; then the next call gets an object of its own.
        """
        mine, kept = self.tensor, key.shape[-2] - new
        fits = 0 < kept <= mine.shape[-2] and (mine.shape[:2], mine.dtype) == (key.shape[:2], key.dtype)
        if not fits or not torch.equal(mine[..., mine.shape[-2] - kept :, :], key[..., :kept, :]):
            return Keys(key), False
        if kept < mine.shape[-2]:
            return Keys(key), True
        self.tensor = key
        return self, True

    def same(self, key: Float[Tensor, "B Hk m d"]) -> tuple[Keys, bool]:
        """(the keys of the next call, True if they are equal to these, as in cross-attention)."""
        return (self, True) if torch.equal(self.tensor, key) else (Keys(key), False)

    def last(self, m: int) -> Keys:
        """What tells whether later keys follow these m, where no call needs these any more."""
        return LastKey(self.tensor[..., m - 1 : m, :].clone(), m)


@dataclass
class LastKey(Keys):
    """The last one of `count` keys, by which the keys of the next call are known to follow them."""

    count: int

    def after(self, key: Float[Tensor, "B Hk m d"], new: int) -> tuple[Keys, bool]:
        """As for `Keys`."""
        kept = key.shape[-2] - new
        return Keys(key), 0 < kept <= self.count and torch.equal(self.tensor, key[..., kept - 1 : kept, :])

    def same(self, key: Float[Tensor, "B Hk m d"]) -> tuple[Keys, bool]:
        """As for `Keys`."""
        return Keys(key), key.shape[-2] == self.count and torch.equal(self.tensor, key[..., -1:, :])


def key_heads(x: Float[Tensor, "Hk m e"], heads: int) -> Float[Tensor, "H m e"]:
    """The keys or values of each query head: with grouped heads, several of these share one."""
    return x if len(x) == heads else x.repeat_interleave(heads // len(x), dim=0)


def sinks_of(sinks: Tensor | None, text: int, queries: Tensor) -> Tensor | None:
    """The sinks of a text's queries, from (H,), one for each head, or (B, H, n, 1), one for each query."""
    if sinks is None:
        return None
    return sinks[:, None] if sinks.ndim == 1 else sinks[min(text, len(sinks) - 1), :, queries, 0]


@dataclass(frozen=True)
class Call:
    """One call: queries (B, H, n, d), keys (B, Hk, m, d), and everything else that its softmax depends on.

    `layer` is the module's name, `run` counts its calls within one pass of the model (a shared layer has several), and
    `step` counts the passes in which it ran. `texts` and `biases` have an entry for each text of the batch. `history`
    are all tokens so far of the text that the keys are of, of which a cache with a window keeps the last m; None if
    they are unknown. `has_first` is False if the first token of the text is no longer among the keys. `normalizers` are
    the L_i of P_ij = exp(s_ij − L_i), for each text of which they have been computed. `reader` tells the models apart
    that ran the layer, as an encoder and a decoder.
    """

    layer: str
    run: int
    step: int
    kind: str
    is_cross: bool
    query: Float[Tensor, "B H n d"]
    keys: Keys
    m: int
    scale: float
    softcap: float | None
    sinks: Tensor | None
    texts: Sequence[Visible]
    biases: Sequence[PairBias | None]
    has_first: bool = True
    normalizers: dict[int, Float[Tensor, "H n"]] = field(default_factory=dict)
    history: Int[Tensor, "B length"] | None = None
    reader: object = None

    @property
    def key(self) -> Float[Tensor, "B Hk m d"]:
        return self.keys.tensor[..., : self.m, :]

    @property
    def ids(self) -> Int[Tensor, "B m"] | None:
        """The tokens of the keys, or None if they are unknown."""
        return None if self.history is None else self.history[:, -self.m :]

    @property
    def heads(self) -> int:
        return self.query.shape[1]

    @property
    def name(self) -> tuple[str, int]:
        """A name that no other layer has: that of the module, and which of its calls in a pass this is."""
        return self.layer, self.run

"""What can be changed in the heads of a model: one small class for each thing, and any of them together.

    scope.intervene(Ablate([(5, 1), (6, 9)]))                     # their output is the same at every token
    scope.intervene(WithoutSinks(), Temperature(2.0, [(3, 0)]))   # two changes, each of heads of its own

Each change is an object with the heads that it is for, rather than an argument of one function, so that two changes
combine without an argument for their combination, and a change of your own takes a class with one method.

`heads` are pairs (layer, head), with the layers counted or named as in `scope.layers`; None are all heads of the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from limelight import check
from limelight.errors import InputError
from limelight.mask import Boolean
from limelight.mask.visible_keys import count_visible
from limelight.microscope.head_inputs import HeadInputs
from limelight.normalization import Normalization
from limelight.similarity import Similarity

Heads = tuple[tuple[int | str, int], ...]


class Intervention:
    """A change of some heads. `heads` are pairs (layer, head), or None for all heads of the model."""

    def __init__(self, heads: Iterable[tuple[int | str, int]] | None = None) -> None:
        self.heads = None if heads is None else _pairs(heads, type(self).__name__)

    @property
    def settings(self) -> str:
        """The arguments of this change other than its heads, as its repr shows them."""
        return ""

    def __repr__(self) -> str:
        of = "" if self.heads is None else _counted(len(self.heads))
        return f"{type(self).__name__}({', '.join(part for part in (self.settings, of) if part)})"


class AttentionChange(Intervention, ABC):
    """A change of what the heads attend to. A base class for your own: define `change`.

    >>> from limelight.microscope import AttentionChange
    >>> class Reversed(AttentionChange):  # the keys with the least weight get the most
    ...     def change(self, head):
    ...         return head.changed(scale=-head.scale)
    >>> Reversed([(0, 1)])
    Reversed(1 head)
    """

    @abstractmethod
    def change(self, head: HeadInputs) -> HeadInputs:
        """The inputs of these heads on one text, changed; their new output is `change(head).output()`."""


class Ablate(Intervention):
    """o_i ← mean_i o_i: the output of a head at each token becomes its mean over the text, or 0.

    A head's output usually has a large constant part, which later layers rely on. Zero takes this away, too, so that
    later layers get inputs unlike any in training; the loss then also counts the missing constant. The mean keeps it
    and takes away only what differs from token to token, which is what attention can have moved. So the mean is the
    default (Wang et al. 2022, 2211.00593, take it over other texts; here it is over the same one).

    The mean is over all tokens of the text, later ones included, so a token learns their mean and nothing else of them.
    While a model writes with a cache, it is over the tokens so far.

    Raises `InputError` for no head at all, and for `to` other than "mean" and "zero". When the model is called: for
    the mean over a text of one token, and with a cache that was filled outside the block.

    >>> from limelight.microscope import Ablate
    >>> Ablate([(0, 1), (2, 3)])
    Ablate(mean, 2 heads)
    """

    def __init__(self, heads: Iterable[tuple[int | str, int]], to: Literal["mean", "zero"] = "mean") -> None:
        if heads is None:
            raise InputError("Ablate(heads) expects pairs (layer, head), got None; ablating all heads leaves nothing")
        super().__init__(heads)
        if to not in ("mean", "zero"):
            raise InputError(f'Ablate(to=…) expects "mean" or "zero", got {to!r}')
        self.to = to

    @property
    def settings(self) -> str:
        return self.to


class WithoutSinks(AttentionChange):
    """P'_ij = P_ij / (1 − P_i0) for j > 0, and P'_i0 = 0: no query attends to the first token, and no learned sink
    takes weight.

    It is the softmax over the other keys. A query that sees no other key, as the first one in a causal model, still
    sees it. In cross-attention it is the first token of the text that is read.

    >>> from limelight.microscope import WithoutSinks
    >>> WithoutSinks()
    WithoutSinks()
    """

    def change(self, head: HeadInputs) -> HeadInputs:
        head, m = head.changed(sinks=None), head.k.shape[-2]
        if not head.has_first or m < 2:
            return head
        other = Boolean((torch.arange(m, device=head.k.device) > 0)[None, :])
        alone = _sees_only_the_first(head)
        hidden = other if alone is None else Boolean(alone[..., None]) | other
        return head.changed(mask=hidden if head.mask is None else head.mask & hidden)


class EqualKeyNorms(AttentionChange):
    """k_j ← k_j · mean_l |k_l| / |k_j|: all keys of a head have the same length, the mean over the text.

    What is left of ⟨q, k⟩ = |q||k| cos is the angle. The mean is that of the head: a mean over the layer would also
    change how sharp each head is. A key of length 0 has no direction and stays. Rotary positions do not change lengths.

    >>> from limelight.microscope import EqualKeyNorms
    >>> EqualKeyNorms([(0, 1)])
    EqualKeyNorms(1 head)
    """

    def change(self, head: HeadInputs) -> HeadInputs:
        norms = head.k.norm(dim=-1, keepdim=True)
        factors = norms.mean(-2, keepdim=True) / norms.masked_fill(norms == 0, 1)
        return head.changed(k=head.k * factors)


class Temperature(AttentionChange):
    """P_ij ∝ exp(s_ij / T): above 1 the weights are more even, below 1 they are sharper, at 1 they stay.

    s_ij are the whole scores, with position bias and cap; the logit of a learned sink is divided by T, too. Raises
    `InputError` unless T is positive and finite.

    >>> from limelight.microscope import Temperature
    >>> Temperature(2.0)
    Temperature(2)
    """

    def __init__(self, temperature: float, heads: Iterable[tuple[int | str, int]] | None = None) -> None:
        super().__init__(heads)
        is_number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
        if not is_number or not 0 < temperature < math.inf:
            raise InputError(f"Temperature expects a positive finite number, got {temperature!r}")
        self.temperature = float(temperature)

    @property
    def settings(self) -> str:
        return f"{self.temperature:g}"

    def change(self, head: HeadInputs) -> HeadInputs:
        return head.changed(temperature=head.temperature * self.temperature)


class Renormalize(AttentionChange):
    """P = normalization(s): another normalization in place of the softmax, such as `Softmax(alpha=1)` or `Entmax()`.

    A normalization that mixes queries needs all queries of a text at once, and would show the future in a causal model.
    So there it raises `InputError` when the model is called: under a causal mask, with a cache, and in cross-attention.

    >>> from limelight import Softmax
    >>> from limelight.microscope import Renormalize
    >>> Renormalize(Softmax(alpha=1.0))
    Renormalize(Softmax(alpha=1))
    """

    def __init__(self, normalization: Normalization, heads: Iterable[tuple[int | str, int]] | None = None) -> None:
        super().__init__(heads)
        check.instance("Renormalize(normalization)", normalization, Normalization)
        self.normalization = normalization

    @property
    def settings(self) -> str:
        return repr(self.normalization)

    def change(self, head: HeadInputs) -> HeadInputs:
        if self.normalization.uses_column_sums:
            head.require_whole(repr(self.normalization))
        return head.changed(normalization=self.normalization)


class Replace(AttentionChange):
    """s_ij = scale · β(q_i, k_j): another similarity in place of the dot product, such as `Euclidean()`.

    The dot product takes the model's scale; any other similarity keeps its own, since the model's is meant for a dot
    product. A cap and a position bias of the layer stay. A similarity of positions raises `InputError` with a cache and
    in cross-attention.

    >>> from limelight import Euclidean
    >>> from limelight.microscope import Replace
    >>> Replace(Euclidean(4.0), [(0, 1)])
    Replace(Euclidean(bandwidth=4.0), 1 head)
    """

    def __init__(self, similarity: Similarity, heads: Iterable[tuple[int | str, int]] | None = None) -> None:
        super().__init__(heads)
        check.instance("Replace(similarity)", similarity, Similarity)
        self.similarity = similarity

    @property
    def settings(self) -> str:
        return repr(self.similarity)

    def change(self, head: HeadInputs) -> HeadInputs:
        head = head.changed(similarity=self.similarity)
        head.require_positions()
        return head


def _pairs(heads: Any, name: str) -> Heads:
    """The pairs, each once; raises `InputError` for none, and for what is no pair (layer, head)."""
    if isinstance(heads, str) or not isinstance(heads, Iterable):
        raise InputError(f"{name} expects pairs (layer, head), as [(5, 1)]; got {heads!r}")
    found = [_pair(pair, name) for pair in heads]
    if not found:
        raise InputError(f"{name} got no heads; give at least one pair (layer, head), as [(5, 1)]")
    return tuple(dict.fromkeys(found))


def _pair(pair: Any, name: str) -> tuple[int | str, int]:
    """(layer, head) of a tuple, a list or a row of an array."""
    if isinstance(pair, str) or not isinstance(pair, (Sequence, np.ndarray)) or len(pair) != 2:
        raise InputError(f"{name} expects pairs (layer, head), as [(5, 1)]; got {pair!r} among them")
    layer, head = (part if isinstance(part, bool) or not isinstance(part, Integral) else int(part) for part in pair)
    return layer, head


def _counted(heads: int) -> str:
    return f"{heads} head{'' if heads == 1 else 's'}"


def _sees_only_the_first(head: HeadInputs) -> Bool[Tensor, "*#heads n"] | None:
    """True for a query that sees the first key and no other; None where there is no such query."""
    n, m = head.q.shape[-2], head.k.shape[-2]
    if head.mask is None:
        return None
    first = head.mask.block(slice(0, n), slice(0, 1), head.q.device)[..., 0]
    alone = first & (count_visible(head.mask, n, m, head.q.device) == 1)
    return alone if bool(alone.any()) else None

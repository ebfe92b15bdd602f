"""Relevancy screening: of the states that leave a short buffer, those are remembered that got the most attention there.

A memory holds the last ν states, its buffer, and at most ρ older ones. While a state is in the buffer, the weights that
it gets are summed; the sum is its relevancy. When it leaves, it takes a free place among the ρ, or, if there is none,
the place of the least relevant state there, provided that its own relevancy is larger; otherwise it is forgotten. So a
step attends to at most ν + ρ states, however long the sequence is. The relevancy is not differentiated.

The mechanism is that of Kerg et al. (2006.09471), with the bookkeeping of their program: weights that a state gets
after it has left the buffer do not count, and of equally relevant states the first one is replaced.
"""

from __future__ import annotations

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.models.recurrent_attention import Memory


class RelevancyScreening(Memory):
    """The last `buffer` states, and the `kept` most relevant of those before them.

    >>> import torch
    >>> from limelight.models.relevancy_screening import RelevancyScreening
    >>> memory = RelevancyScreening(buffer=1, kept=1)
    >>> for value, weights in ((1.0, [1.0]), (2.0, [0.3, 0.7]), (3.0, [0.9, 0.1]), (4.0, [0.2, 0.8])):
    ...     memory.append(torch.tensor([value]))
    ...     memory.weigh(torch.tensor(weights))
    >>> memory.states()  # 1 was kept, since it got a weight of 1 while it was the newest
    tensor([[1.],
            [4.]])
    """

    def __init__(self, buffer: int, kept: int) -> None:
        if buffer < 1 or kept < 0:
            raise InputError(
                f"RelevancyScreening expects buffer ≥ 1 and kept ≥ 0, numbers of states; got {buffer} and {kept}"
            )
        self.buffer, self.kept = buffer, kept
        self._recent: deque[Tensor] = deque()
        self._sums = torch.zeros(0)  # (*batch, m): the attention that each state of the buffer has got
        self._old: Tensor | None = None  # (*batch, r, d): the states that are kept
        self._relevancy: Tensor | None = None  # (*batch, r)

    def append(self, state: Float[Tensor, "*batch d"]) -> None:
        fresh = state.detach().new_zeros(*state.shape[:-1], 1)
        self._sums = torch.cat([self._sums, fresh], -1) if self._recent else fresh
        self._recent.append(state)
        if len(self._recent) > self.buffer:
            self._screen(self._recent.popleft(), self._sums[..., 0])
            self._sums = self._sums[..., 1:]

    def states(self) -> Float[Tensor, "*batch m d"]:
        recent = torch.stack(tuple(self._recent), -2)
        return recent if self._old is None else torch.cat([self._old, recent], -2)

    def attended(self, attention: Attention) -> None:
        with torch.no_grad():
            self.weigh(attention.dense()[..., 0, :])

    def weigh(self, weights: Float[Tensor, "*batch m"]) -> None:
        """Add the weights that the states got; those of states that are not in the buffer are not used."""
        self._sums = self._sums + weights[..., -len(self._recent) :]

    def tensors(self) -> list[Tensor]:
        kept = (self._old, self._relevancy)
        return [*self._recent, self._sums, *(x for x in kept if x is not None)]

    def _screen(self, state: Float[Tensor, "*batch d"], relevancy: Float[Tensor, "*batch"]) -> None:
        """Keep the state that leaves the buffer if there is room or if it is more relevant than one of those kept."""
        if not self.kept:
            return
        if self._old is None or self._relevancy is None:
            self._old, self._relevancy = state[..., None, :], relevancy[..., None]
            return
        if self._old.shape[-2] < self.kept:
            self._old = torch.cat([self._old, state[..., None, :]], -2)
            self._relevancy = torch.cat([self._relevancy, relevancy[..., None]], -1)
            return
        least, place = self._relevancy.min(-1, keepdim=True)
        number = torch.arange(self.kept, device=state.device)
        taken = (number == place) & (relevancy[..., None] > least)  # at most one place of each sequence
        self._old = torch.where(taken[..., None], state[..., None, :], self._old)
        self._relevancy = torch.where(taken, relevancy[..., None], self._relevancy)

"""A number that a layer adds to the score of each pair: T5's position bias, ALiBi in a float mask, Swin's table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.similarity import Bias, RelativeBias, Similarity


@dataclass(frozen=True)
class PairBias:
    """b_ij for each head, as a table (heads, n, m), or (heads, n + m − 1) numbers if it depends on j − i alone.

    A matrix that is constant along its diagonals (T5's, ALiBi's) is kept as its first column, from below, and the rest
    of its first row; so it takes n + m numbers for each head. Any other one is kept as it is.
    """

    numbers: Tensor
    queries: int
    is_relative: bool

    @classmethod
    def of(cls, table: Float[Tensor, "heads n m"]) -> PairBias:
        n = table.shape[-2]
        if all(torch.equal(one[1:, 1:], one[:-1, :-1]) for one in table):
            return cls(torch.cat([table[:, :, 0].flip(-1), table[:, 0, 1:]], -1), n, True)
        return cls(table.clone(), n, False)

    def head(self, head: int) -> PairBias:
        """The numbers of one head; of the only ones there are if all heads share them."""
        at = min(head, len(self.numbers) - 1)
        return PairBias(self.numbers[at : at + 1], self.queries, self.is_relative)

    def heads(self, heads: list[int]) -> PairBias:
        """The numbers of these heads."""
        return self if len(self.numbers) == 1 else PairBias(self.numbers[heads], self.queries, self.is_relative)

    def at(self, i: Int[Tensor, " pairs"], j: Int[Tensor, " pairs"]) -> Float[Tensor, "heads pairs"]:
        """b_ij of some pairs."""
        return self.numbers[:, j - i + self.queries - 1] if self.is_relative else self.numbers[:, i, j]

    def block(self, rows: slice, cols: slice) -> Float[Tensor, "heads r c"]:
        """b_ij of a rectangle of pairs."""
        if not self.is_relative:
            return self.numbers[:, rows, cols]
        i, j = (torch.arange(at.start, at.stop, device=self.numbers.device) for at in (rows, cols))
        return self.numbers[:, j - i[:, None] + self.queries - 1]

    def similarity(self, dtype: torch.dtype) -> Similarity:
        """The same numbers as a term of the scores."""
        numbers = self.numbers.to(dtype)
        if not self.is_relative:
            return Bias(numbers[0] if len(numbers) == 1 else numbers)
        ahead = numbers.shape[-1] - self.queries  # the largest j − i; the smallest is 1 − n
        reach = max(ahead, self.queries - 1)
        bias = RelativeBias(reach, len(numbers)).to(numbers.device, dtype).requires_grad_(False)
        bias.table[:, reach - self.queries + 1 : reach + ahead + 1] = numbers
        return bias

"""Generated data: sequences of symbols, and what is to be written about them, backwards, between begin and end."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from limelight.models.transformer import BEGIN, END, FIRST


def sequences(n: int, length: int, symbols: int, generator: torch.Generator) -> Int[Tensor, "n length"]:
    """n random sequences of the tokens FIRST … FIRST + symbols − 1."""
    return FIRST + torch.randint(symbols, (n, length), generator=generator)


def reversal(source: Int[Tensor, "n length"]) -> Int[Tensor, "n two_more"]:
    """Begin, the symbols of each sequence from the last to the first, end.

    >>> reversal(torch.tensor([[3, 4, 5]]))
    tensor([[1, 5, 4, 3, 2]])
    """
    return _framed(source.flip(1))


def differences(source: Int[Tensor, "n length"], symbols: int) -> Int[Tensor, "n one_more"]:
    """Begin, of each two neighbors the later minus the earlier, modulo the number of symbols, backwards, end.

    >>> differences(torch.tensor([[3, 4, 6]]), symbols=4)  # the symbols 0, 1, 3: 3 − 1, and 1 − 0
    tensor([[1, 5, 4, 2]])
    """
    backwards = source.flip(1)
    return _framed(FIRST + (backwards[:, :-1] - backwards[:, 1:]) % symbols)


def _framed(symbols: Int[Tensor, "n t"]) -> Int[Tensor, "n two_more"]:
    begin, end = (torch.full((len(symbols), 1), token) for token in (BEGIN, END))
    return torch.cat([begin, symbols, end], 1)

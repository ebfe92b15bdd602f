"""Generated data: sequences of symbols, and what is to be written about them, backwards, between begin and end."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from limelight.data.special_tokens import BEGIN, END, FIRST


def sequences(n: int, length: int, symbols: int, generator: torch.Generator) -> Int[Tensor, "n length"]:
    """n random sequences of the tokens FIRST … FIRST + symbols − 1."""
    return FIRST + torch.randint(symbols, (n, length), generator=generator)


def reversal(source: Int[Tensor, "n length"]) -> Int[Tensor, "n two_more"]:
    """Begin, the symbols of each sequence from the last to the first, end.

    >>> import torch
    >>> from limelight.data.reversals import reversal
    >>> reversal(torch.tensor([[3, 4, 5]]))
    tensor([[1, 5, 4, 3, 2]])
    """
    return _framed(source.flip(1))


def pair_names(source: Int[Tensor, "n length"], symbols: int) -> Int[Tensor, "n one_more"]:
    """Begin, for each two neighbors one token that names the later one and the earlier one, backwards, end.

    The pair (a, b) of symbols counted from 0 is named a · symbols + b, so that there are symbols² names.

    >>> import torch
    >>> from limelight.data.reversals import pair_names
    >>> pair_names(torch.tensor([[3, 4, 6]]), symbols=4)  # the symbols 0, 1, 3: first (3, 1), then (1, 0)
    tensor([[ 1, 16,  7,  2]])
    """
    later, earlier = _neighbors(source)
    return _framed(FIRST + symbols * later + earlier)


def larger_of_pairs(source: Int[Tensor, "n length"]) -> Int[Tensor, "n one_more"]:
    """Begin, of each two neighbors the larger one, backwards, end.

    >>> import torch
    >>> from limelight.data.reversals import larger_of_pairs
    >>> larger_of_pairs(torch.tensor([[3, 5, 4]]))
    tensor([[1, 5, 5, 2]])
    """
    return _framed(FIRST + torch.maximum(*_neighbors(source)))


def _neighbors(source: Int[Tensor, "n length"]) -> tuple[Int[Tensor, "n one_less"], Int[Tensor, "n one_less"]]:
    """The symbols, counted from 0, from the last to the second, and beside each the one before it."""
    backwards = source.flip(1) - FIRST
    return backwards[:, :-1], backwards[:, 1:]


def _framed(symbols: Int[Tensor, "n t"]) -> Int[Tensor, "n two_more"]:
    begin, end = (torch.full((len(symbols), 1), token) for token in (BEGIN, END))
    return torch.cat([begin, symbols, end], 1)

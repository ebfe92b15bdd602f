"""Generated data: sequences of symbols and what an algorithm makes of them, as long as the sequence itself.

Numbers are binary and written with the lowest digit first, as in the Neural GPU (Kaiser & Sutskever 2015, 1511.08228).
Every task draws `n` sequences of `length` symbols, and raises `InputError` where they would be shorter than 4, or where
numbers would be too large for 64 bits.

    reverse    the symbols from the last to the first
    sort       the symbols in ascending order
    not        each bit inverted
    add        a + b, of two numbers with (length − 1) // 2 bits each
    multiply   a · b, of two such numbers
    remember   the first length // 4 symbols, repeated in as many places at the end; those between do not matter
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.errors import InputError

SYMBOLS = 8  # 0 … 7; bits are the symbols 0 and 1
PLUS, TIMES, BLANK = 8, 9, 10
ALPHABET = 11
SHORTEST, LONGEST_NUMBERS = 4, 63


class Sequences(NamedTuple):
    """Inputs, targets, and the positions whose targets count (`asked`); elsewhere the target is `BLANK`.

    >>> import torch
    >>> from limelight.data.algorithmic import reverse
    >>> reverse(2, 5, torch.Generator()).asked.all()
    tensor(True)
    """

    inputs: Int[Tensor, "n length"]
    targets: Int[Tensor, "n length"]
    asked: Bool[Tensor, "n length"]


def reverse(n: int, length: int, generator: torch.Generator) -> Sequences:
    """Symbols, and the same from the last to the first."""
    x = _symbols(n, length, generator)
    return _all_asked(x, x.flip(-1))


def sort(n: int, length: int, generator: torch.Generator) -> Sequences:
    """Symbols, and the same in ascending order."""
    x = _symbols(n, length, generator)
    return _all_asked(x, x.sort(-1).values)


def invert(n: int, length: int, generator: torch.Generator) -> Sequences:
    """Bits, and each of them inverted (the task "not")."""
    x = _symbols(n, length, generator, 2)
    return _all_asked(x, 1 - x)


def add(n: int, length: int, generator: torch.Generator) -> Sequences:
    """a, `PLUS` and b, filled up with `BLANK`; the target is the m + 1 bits of a + b, for numbers of m bits."""
    return _numbers(n, length, generator, PLUS, torch.add, lambda m: m + 1)


def multiply(n: int, length: int, generator: torch.Generator) -> Sequences:
    """a, `TIMES` and b, filled up with `BLANK`; the target is the 2m bits of a · b, for numbers of m bits."""
    return _numbers(n, length, generator, TIMES, torch.mul, lambda m: 2 * m)


def remember(n: int, length: int, generator: torch.Generator) -> Sequences:
    """Symbols and, at the end, length // 4 times `BLANK`, where the first length // 4 symbols have to be repeated."""
    x = _symbols(n, length, generator)
    kept = length // 4
    asked = (torch.arange(length) >= length - kept).expand(n, length)
    targets = torch.full_like(x, BLANK)
    targets[:, -kept:] = x[:, :kept]
    return Sequences(x.masked_fill(asked, BLANK), targets, asked)


Task = Callable[[int, int, torch.Generator], Sequences]
TASKS: dict[str, Task] = {
    "reverse": reverse, "sort": sort, "not": invert, "add": add, "multiply": multiply, "remember": remember,
}  # fmt: skip


def _symbols(n: int, length: int, generator: torch.Generator, symbols: int = SYMBOLS) -> Int[Tensor, "n length"]:
    if length < SHORTEST:
        raise InputError(f"length expects at least {SHORTEST} symbols, got {length}")
    return torch.randint(symbols, (n, length), generator=generator)


def _all_asked(inputs: Tensor, targets: Tensor) -> Sequences:
    return Sequences(inputs, targets, torch.ones_like(inputs, dtype=torch.bool))


def _numbers(
    n: int,
    length: int,
    generator: torch.Generator,
    sign: int,
    operation: Callable[[Tensor, Tensor], Tensor],
    digits: Callable[[int], int],
) -> Sequences:
    """Two numbers of m bits with `sign` between them, and the bits of the operation's result."""
    if length > LONGEST_NUMBERS:
        raise InputError(f"length expects at most {LONGEST_NUMBERS} for numbers, got {length}: 64 bits hold no more")
    x, m = _symbols(n, length, generator, 2), (length - 1) // 2
    x[:, m], x[:, 2 * m + 1 :] = sign, BLANK
    powers = 2 ** torch.arange(m)
    result = operation((x[:, :m] * powers).sum(-1), (x[:, m + 1 : 2 * m + 1] * powers).sum(-1))
    asked = (torch.arange(length) < digits(m)).expand(n, length)
    bits = result[:, None] >> torch.arange(length) & 1
    return Sequences(x, bits.masked_fill(~asked, BLANK), asked)

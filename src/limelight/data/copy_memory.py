"""Generated data: symbols that have to be remembered for a while and then repeated in their order.

A sequence of `blanks` + 2·`LENGTH` tokens has `LENGTH` symbols, blanks, a delimiter, and `LENGTH` blanks at its end, at
which the symbols have to be repeated. The tokens 0 … `SYMBOLS` − 1 are symbols.

    copy memory    a c b _ _ _ _ _ _ : _ _ _    →  a c b
    denoise        _ _ a _ c _ _ b _ : _ _ _    →  a c b

The tasks are those of Hochreiter and Schmidhuber (1997), with the layout of Arjovsky et al. (1511.06464) for copy
memory and of Jing et al. (1706.02761) for denoise.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

SYMBOLS, LENGTH = 4, 3
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
TOKENS = SYMBOLS + 2


def copy_memory(
    n: int, blanks: int, generator: torch.Generator
) -> tuple[Int[Tensor, "n length"], Int[Tensor, "n symbols"]]:
    """(tokens, targets): the symbols come first, then `blanks` − 1 blanks, the delimiter, and the blanks of the answer.

    >>> import torch
    >>> from limelight.data.copy_memory import copy_memory
    >>> tokens, targets = copy_memory(1, 5, torch.Generator().manual_seed(0))
    >>> tokens.tolist(), targets.tolist()
    ([[0, 3, 1, 4, 4, 4, 4, 5, 4, 4, 4]], [[0, 3, 1]])
    """
    places = torch.arange(LENGTH).expand(n, LENGTH)
    return _sequences(places, blanks, generator)


def denoise(
    n: int, blanks: int, generator: torch.Generator
) -> tuple[Int[Tensor, "n length"], Int[Tensor, "n symbols"]]:
    """(tokens, targets): the same, with the symbols at random places before the delimiter.

    >>> import torch
    >>> from limelight.data.copy_memory import denoise
    >>> tokens, targets = denoise(1, 5, torch.Generator().manual_seed(0))
    >>> tokens.tolist(), targets.tolist()
    ([[4, 4, 3, 1, 3, 4, 4, 5, 4, 4, 4]], [[3, 1, 3]])
    """
    places = torch.rand(n, LENGTH + blanks - 1, generator=generator).argsort(-1)[:, :LENGTH].sort(-1).values
    return _sequences(places, blanks, generator)


def _sequences(
    places: Int[Tensor, "n symbols"], blanks: int, generator: torch.Generator
) -> tuple[Int[Tensor, "n length"], Int[Tensor, "n symbols"]]:
    """Sequences with random symbols at these places."""
    n = len(places)
    targets = torch.randint(SYMBOLS, (n, LENGTH), generator=generator)
    tokens = torch.full((n, blanks + 2 * LENGTH), BLANK).scatter(1, places, targets)
    tokens[:, LENGTH + blanks - 1] = DELIMITER
    return tokens, targets

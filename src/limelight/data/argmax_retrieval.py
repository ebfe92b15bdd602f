"""Generated data: samples of tokens, of which a different one matters each time. Its value is the target."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

TOKENS = 8


def argmax_retrieval(
    n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n tokens 2"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """(tokens, target, which): n samples of `TOKENS` tokens (priority, value).

    The target is the value of the token with the highest priority. Values are ± 0.5 … 1.5, so that leaving out the
    token that matters always changes the output.
    """
    priority = torch.randn(n, TOKENS, generator=generator)
    sign = torch.where(torch.rand(n, TOKENS, generator=generator) < 0.5, -1.0, 1.0)
    value = sign * (0.5 + torch.rand(n, TOKENS, generator=generator))
    which = priority.argmax(-1)
    return torch.stack([priority, value], -1), value.gather(1, which[:, None])[:, 0], which

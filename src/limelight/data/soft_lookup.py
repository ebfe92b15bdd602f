"""Generated data: tokens that each look up a value among all tokens, as one attention layer does it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError

NUMBERS = 3  # of a token: its query, its key and its value
SHARPNESS = 3.0  # standard deviation of the scores


def soft_lookup(
    n: int, tokens: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n tokens 3"], Float[Tensor, "n tokens"]]:
    """x_i = (q_i, k_i, v_i) and y_i = Σ_j softmax_j(3 q_i k_j) v_j, for standard normal q, k and v.

    A token with a large positive q takes the value of the token with the largest k, one with a large negative q that of
    the token with the smallest k, and one with q near 0 the mean of all values. Raises `InputError` for less than one
    token or a negative n.

    >>> import torch
    >>> from limelight.data.soft_lookup import soft_lookup
    >>> x, y = soft_lookup(5, tokens=4, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.shape
    (torch.Size([5, 4, 3]), torch.Size([5, 4]))
    """
    if n < 0 or tokens < 1:
        raise InputError(f"soft_lookup expects n ≥ 0 samples of tokens ≥ 1, got n={n} and tokens={tokens}")
    x = torch.randn(n, tokens, NUMBERS, generator=generator)
    return x, (lookup_attention(x) @ x[..., 2:])[..., 0]


def lookup_attention(x: Float[Tensor, "*batch tokens 3"]) -> Attention:
    """The attention by which the tokens look up their values."""
    return Attention(x[..., :1], x[..., 1:2], scale=SHARPNESS)

"""Where a token stands: position vectors that are added to the tokens, and a bias on the scores of two places.

Attention by itself does not depend on order: it treats its keys as a set. A vector for each place, added to the token
that stands there, gives the place; a bias that depends on the distance of query and key gives only their distance.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.similarity import Dot, RelativeBias, Similarity

LONGEST_WAVE = 10_000  # the longest wavelength of the sinusoidal positions, divided by 2π


def sinusoidal(length: int, width: int) -> Float[Tensor, "length width"]:
    """p_{t, 2i} = sin(t / 10000^{2i/width}) and p_{t, 2i+1} = cos(t / 10000^{2i/width}), for places t from 0 on.

    Each pair of columns is the hand of a clock, and the clocks run at speeds from 1 to 1/10000. A step of d places
    turns each hand by a fixed angle wherever it begins, so that p_{t+d} is one rotation of p_t, the same for every t.

    Raises `InputError` for an odd width, and for a length or a width below 1.

    Source: Vaswani et al. 2017 (1706.03762), section 3.5.

    >>> from limelight.models.positions import sinusoidal
    >>> sinusoidal(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    require_size("length", length)
    require_size("width", width)
    if width % 2:
        raise InputError(f"sinusoidal positions expect an even width, a sine and a cosine of each speed; got {width}")
    speeds = LONGEST_WAVE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * speeds
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).float()


class SinusoidalPositions(nn.Module):
    """x_t + p_t with the fixed vectors p_t of `sinusoidal`, for sequences of any length.

    Nothing is learned, and a place that no training sequence reached has a vector too.

    >>> import torch
    >>> from limelight.models.positions import SinusoidalPositions
    >>> SinusoidalPositions(width=8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sinusoidal(1, width)  # checks the width
        self.width = width

    def forward(self, x: Float[Tensor, "n t width"]) -> Float[Tensor, "n t width"]:
        require_tokens(x, self.width)
        return x + sinusoidal(x.shape[1], self.width).to(x)


class LearnedPositions(nn.Module):
    """x_t + p_t with a learned vector p_t for each of the places 0 … longest − 1.

    What the model knows of a place it has learned at that place. Raises `InputError` for a longer sequence, since its
    last places have no vector.

    Source: Gehring et al. 2017 (1705.03122); Devlin et al. 2019 (1810.04805).

    >>> import torch
    >>> from limelight.models.positions import LearnedPositions
    >>> LearnedPositions(longest=16, width=8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, longest: int, width: int) -> None:
        super().__init__()
        require_size("longest", longest)
        require_size("width", width)
        self.table = nn.Parameter(torch.randn(longest, width))

    def forward(self, x: Float[Tensor, "n t width"]) -> Float[Tensor, "n t width"]:
        longest, width = self.table.shape
        require_tokens(x, width)
        if x.shape[1] > longest:
            raise InputError(f"these learned positions end at a length of {longest}, got a sequence of {x.shape[1]}")
        return x + self.table[: x.shape[1]]


def relative_similarity(reach: int, heads: int) -> Similarity:
    """s_ij = ⟨q_i, k_j⟩/√d + b[h, j − i]: the dot product and a learned bias for each head h and each distance j − i.

    Distances beyond `reach` share the bias of `reach`. Only distances occur, so what is learned about two tokens holds
    wherever they stand. It is given to an attention layer as its similarity, and nothing is added to the tokens.

    Raises `InputError` for a negative reach and for less than one head.

    Source: Shaw et al. 2018 (1803.02155); Raffel et al. 2020 (1910.10683).

    >>> import torch
    >>> from limelight.models.positions import relative_similarity
    >>> from limelight.nn import MultiheadAttention
    >>> layer = MultiheadAttention(8, 2, batch_first=True, similarity=relative_similarity(reach=3, heads=2))
    >>> x = torch.randn(1, 5, 8)
    >>> layer(x, x, x)[0].shape
    torch.Size([1, 5, 8])
    """
    require_size("heads", heads)
    return Dot() + RelativeBias(reach, heads)


def require_size(name: str, size: object) -> None:
    """Raise `InputError` unless `size` is a whole number of at least 1."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"{name} expects a whole number ≥ 1, got {size!r}")


def require_tokens(x: Tensor, width: int) -> None:
    """Raise `InputError` unless x is (n, t, width) with at least one place t."""
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] != width:
        raise InputError(f"expected tokens (n, t, {width}) with t ≥ 1, got the shape {tuple(x.shape)}")

"""How selective a unit is for the orientation of a line: from its responses, and from its filter."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError

_DEGREE = 4  # of the polynomial that is fitted across a filter's lines


def circular_variance(
    responses: Float[Tensor, "*units orientations"], orientations: Float[Tensor, " orientations"]
) -> Float[Tensor, " *units"]:
    """V = 1 − |Σ_k r_k exp(2iθ_k)| / Σ_k r_k: 0 for a unit that responds to one orientation, 1 for one that responds to
    all alike (Ringach, Shapley & Hawken 2002, J. Neurosci. 22, 5639).

    responses r: at least 0, each unit's to lines of the orientations θ in radians, which are spread evenly over a half
    turn; orientations that differ by π are the same, hence the 2. The whole tuning curve counts, not its width at the
    peak alone. 1 − V is the orientation selectivity. V is NaN for a unit that responds to none.

    Raises `InputError` for responses that are negative or not finite, and orientations that are not spread evenly.

    >>> import torch
    >>> from limelight.interpret.orientation import circular_variance
    >>> angles = torch.arange(4) * torch.pi / 4
    >>> circular_variance(torch.tensor([[0.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), angles)
    tensor([0., 1.])
    """
    _require_responses(responses, orientations)
    x, y = _resultant(responses, orientations)
    return 1 - torch.hypot(x, y) / responses.sum(-1)


def preferred_orientation(
    responses: Float[Tensor, "*units orientations"], orientations: Float[Tensor, " orientations"]
) -> Float[Tensor, " *units"]:
    """½ arg Σ_k r_k exp(2iθ_k), in [0, π): the mean of the orientations, weighted by a unit's responses.

    It means nothing where the circular variance is near 1. Takes and raises what `circular_variance` does.

    >>> import torch
    >>> from limelight.interpret.orientation import preferred_orientation
    >>> preferred_orientation(torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.arange(4) * torch.pi / 4)
    tensor(1.1781)
    """
    _require_responses(responses, orientations)
    x, y = _resultant(responses, orientations)
    return (torch.atan2(y, x) / 2).remainder(math.pi)


def line_share(filters: Float[Tensor, "units side side"], orientations: int = 24) -> Float[Tensor, " units"]:
    """max_θ R²(θ): the share of a filter's variance in w(x, y) ≈ g(y cos θ − x sin θ), g a polynomial of degree 4.

    θ is the orientation of the lines along which such a filter is constant. The share is 1 for a horizontal or vertical
    line or edge, 0.6 to 0.9 for small Gabor functions, which fade along their lines, and 0.3 on average for a filter of
    5×5 random numbers, since the best of several orientations is taken. NaN for a constant filter.

    Raises `InputError` for filters that are not square, or have fewer than 3 pixels each way.

    >>> import torch
    >>> from limelight.interpret.orientation import line_share
    >>> edge = torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0]).expand(5, 5)
    >>> spot = torch.zeros(5, 5).index_put((torch.tensor([2]), torch.tensor([2])), torch.tensor([1.0]))
    >>> line_share(torch.stack([edge, spot])).round(decimals=2)
    tensor([1.0000, 0.1700])
    """
    if filters.ndim != 3 or filters.shape[1] != filters.shape[2] or filters.shape[1] < 3:
        raise InputError(
            f"line_share expects filters (units, side, side) of 3 pixels or more, got {tuple(filters.shape)}"
        )
    centered = filters.double().flatten(1)
    centered = centered - centered.mean(1, keepdim=True)
    explained = torch.stack([(centered @ basis).square().sum(1) for basis in _across(filters.shape[1], orientations)])
    return (explained.amax(0) / centered.square().sum(1)).to(filters.dtype)


def _across(side: int, orientations: int) -> list[Tensor]:
    """For each orientation an orthonormal basis (pixels, 4) of the polynomials across it, without the constant.

    For a side of three or four pixels a polynomial of degree 4 across a horizontal line has more coefficients than
    there are rows; the basis then has as many columns as there are independent powers.
    """
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    x, y = at.repeat(side), -at.repeat_interleave(side)
    found = []
    for k in range(orientations):
        theta = math.pi * k / orientations
        d = (y * math.cos(theta) - x * math.sin(theta)) / side
        powers = torch.stack([d**p for p in range(1, _DEGREE + 1)], 1)
        basis, sizes, _ = torch.linalg.svd(powers - powers.mean(0), full_matrices=False)
        found.append(basis[:, sizes > 1e-9 * sizes[0]])
    return found


def _resultant(responses: Tensor, orientations: Tensor) -> tuple[Tensor, Tensor]:
    return (responses * (2 * orientations).cos()).sum(-1), (responses * (2 * orientations).sin()).sum(-1)


def _require_responses(responses: Tensor, orientations: Tensor) -> None:
    if orientations.ndim != 1 or responses.shape[-1:] != orientations.shape:
        raise InputError(
            f"responses to {tuple(orientations.shape)} orientations should have shape (…, orientations), got "
            f"{tuple(responses.shape)}"
        )
    if not (responses.isfinite().all() and (responses >= 0).all()):
        raise InputError("expected responses that are finite and at least 0, such as activations after a ReLU")
    count = len(orientations)
    gaps = orientations.sort().values.diff()
    if count < 3 or not torch.allclose(gaps, torch.full_like(gaps, math.pi / count), rtol=0, atol=1e-4):
        raise InputError("expected at least three orientations in equal steps of π / their number")

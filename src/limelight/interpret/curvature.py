"""Whether a unit prefers arcs to straight segments."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def curvature_preference(
    straight: Float[Tensor, " *units"], curved: Float[Tensor, "*units curvatures"]
) -> Float[Tensor, " *units"]:
    """C = (c − s) / (c + s) with c = max_κ c_κ: from −1 for a unit that responds to straight segments alone to 1 for
    one that responds to arcs alone; 0.1 means that its best arc excites it 22% more than its best segment.

    straight s and curved c_κ: at least 0, a unit's best response, over orientations and places, to segments and to arcs
    of the curvature κ, of equal length, width and contrast. Cells of the area V4 are described by such responses
    (Pasupathy & Connor 1999), and units of networks too (Cammarata et al. 2020, Curve Detectors). As the best of many
    arcs is compared with one kind of segment, a unit that knows nothing of curvature has a C above 0 on average:
    compare with an untrained network. C is NaN for a unit that responds to neither.

    Raises `InputError` for responses that are negative or not finite, or shapes that do not fit.

    >>> import torch
    >>> from limelight.interpret.curvature import curvature_preference
    >>> curvature_preference(torch.tensor([1.0, 1.0]), torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    tensor([0.0000, 0.5000])
    """
    if curved.ndim < 1 or curved.shape[:-1] != straight.shape or not curved.shape[-1]:
        raise InputError(
            f"curvature_preference expects responses (…) to segments and (…, curvatures) to arcs, got "
            f"{tuple(straight.shape)} and {tuple(curved.shape)}"
        )
    for each in (straight, curved):
        if not (each.isfinite().all() and (each >= 0).all()):
            raise InputError("curvature_preference expects responses that are finite and at least 0")
    best = curved.amax(-1)
    return (best - straight) / (best + straight)

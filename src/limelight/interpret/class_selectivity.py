"""How well a single unit tells one class from all others, and how much of its response a change of the image leaves."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError


def class_areas(
    responses: Float[Tensor, "n units"], labels: Int[Tensor, " n"], classes: int
) -> Float[Tensor, "units classes"]:
    """A_uc = P(r_u(x) > r_u(x')) + ½ P(r_u(x) = r_u(x')), x of class c and x' of another: the area under the ROC curve.

    It is 1 for a unit that responds to every image of the class more than to any other, ½ for one that does not
    distinguish them, and 0 for one that responds to all others more. Only the order of responses counts. Choose a
    unit's class on other images than those it is judged by, or the largest of several areas is above ½ by chance.

    It is computed from the ranks of the responses (Mann & Whitney 1947), where equal ones share their mean rank.

    Raises `InputError` for responses that are NaN, labels outside 0 … classes − 1, and a class without any image, or
    with all of them.

    >>> import torch
    >>> from limelight.interpret.class_selectivity import class_areas
    >>> class_areas(torch.tensor([[1.0], [2.0], [2.0], [9.0]]), torch.tensor([0, 0, 1, 1]), 2)
    tensor([[0.1250, 0.8750]])
    """
    _require_images("class_areas", responses, len(labels))
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise InputError(f"class_areas expects labels from 0 to {classes - 1}, got {labels.unique().tolist()}")
    inside = torch.nn.functional.one_hot(labels, classes).to(torch.float64)
    count = inside.sum(0)
    if not ((count > 0) & (count < len(labels))).all():
        raise InputError(f"class_areas expects images of every class, got {count.int().tolist()} of {classes} classes")
    from scipy.stats import rankdata  # imported here, since it takes most of a second

    ranks = torch.from_numpy(rankdata(responses.detach().double().numpy(), axis=0))
    above = ranks.mT @ inside - count * (count + 1) / 2  # the number of pairs where the class's response is larger
    return (above / (count * (len(labels) - count))).to(responses.dtype)


def tolerance(responses: Float[Tensor, "n units"], changed: Float[Tensor, "n units"]) -> Float[Tensor, " units"]:
    """The correlation, over images, of each unit's responses to them and to the same images after a change.

    1 means that a shift, say, or a turn leaves the differences between a unit's responses as they are, 0 that nothing
    of them is left. NaN for a unit that responds to all images alike, before or after.

    Raises `InputError` for responses that are NaN, of different shapes, or to fewer than two images.

    >>> import torch
    >>> from limelight.interpret.class_selectivity import tolerance
    >>> tolerance(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]]))
    tensor([1.])
    """
    _require_images("tolerance", responses, len(changed))
    _require_images("tolerance", changed, len(responses))
    if responses.shape != changed.shape or len(responses) < 2:
        raise InputError(f"tolerance expects responses (n ≥ 2, units) twice, got {tuple(responses.shape)} and "
                         f"{tuple(changed.shape)}")  # fmt: skip
    a, b = (each.double() - each.double().mean(0) for each in (responses, changed))
    found: Tensor = (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt()
    return found.to(responses.dtype)


def _require_images(who: str, responses: Tensor, count: int) -> None:
    if responses.ndim != 2 or len(responses) != count:
        raise InputError(f"{who} expects responses ({count}, units), got {tuple(responses.shape)}")
    if responses.isnan().any():
        raise InputError(f"{who} expects numbers, got NaN among the responses")

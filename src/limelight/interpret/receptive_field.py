"""Which pixels a unit sees, measured by the gradient, and how wide that is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def receptive_fields(f: Callable[[Tensor], Tensor], images: Float[Tensor, "n h w"]) -> Float[Tensor, "units h w"]:
    """G_u(p) = mean over images of (∂f_u(x) / ∂x_p)²: how much each pixel moves a unit (Luo et al. 2016, 1701.04128).

    The architecture determines which pixels could matter; this measures which do. f maps images to activations
    (n, units) of single places, each image independently. G is 0 for a unit that no image excites.

    Raises `InputError` if images do not have the shape (n, h, w), or f does not give activations for each.

    >>> import torch
    >>> from limelight.interpret.receptive_field import receptive_fields
    >>> receptive_fields(lambda x: 3 * x[:, 0, 1:], torch.rand(5, 2, 3))[1]
    tensor([[0., 0., 9.],
            [0., 0., 0.]])
    """
    if images.ndim != 3 or not len(images):
        raise InputError(f"receptive_fields expects images of shape (n, h, w), n ≥ 1, got {tuple(images.shape)}")
    with torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        active = f(pixels)
        if active.ndim != 2 or len(active) != len(images):
            raise InputError(
                f"receptive_fields expects f to give activations ({len(images)}, units), got {tuple(active.shape)}"
            )
        return torch.stack([
            torch.autograd.grad(each.sum(), pixels, retain_graph=True)[0].square().mean(0) for each in active.unbind(1)
        ])  # fmt: skip


def effective_side(fields: Float[Tensor, "units h w"]) -> Float[Tensor, " units"]:
    """√((Σ_p G_p)² / Σ_p G_p²): the side, in pixels, of a square of as many pixels as G is spread over.

    For a G that is constant on k×k pixels and 0 elsewhere it is k; pixels that hardly matter hardly count. NaN where
    G is 0 everywhere.

    Raises `InputError` for fields that are not (units, h, w), negative or not finite.

    >>> import torch
    >>> from limelight.interpret.receptive_field import effective_side
    >>> effective_side(torch.nn.functional.pad(torch.ones(1, 3, 3), (2, 4, 1, 0)))
    tensor([3.])
    """
    if fields.ndim != 3 or not (fields.isfinite().all() and (fields >= 0).all()):
        raise InputError(f"effective_side expects finite fields (units, h, w) of at least 0, got {tuple(fields.shape)}")
    shares = fields.double() / fields.double().sum((1, 2), keepdim=True)  # before squaring, which could underflow
    return shares.square().sum((1, 2)).rsqrt().to(fields.dtype)

"""Which pixels of an image a network relies on: the gradient with respect to them, and the attention they receive."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.models.image_classifiers import SmallViT


def saliency(f: Callable[[Tensor], Tensor], images: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """|∂ max_c f_c(x) / ∂x|: how much the largest logit changes with each pixel (Simonyan et al. 2014).

    f maps images (n, h, w) to logits (n, classes), each image independently. Gradients of parameters do not change.

    Raises `InputError` if images do not have the shape (n, h, w), or f does not return logits for each.
    """
    if images.ndim != 3:
        raise InputError(f"saliency expects images of shape (n, h, w), got {tuple(images.shape)}")
    with torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        logits = f(pixels)
        if logits.ndim != 2 or len(logits) != len(images):
            raise InputError(f"saliency expects f to give logits ({len(images)}, classes), got {tuple(logits.shape)}")
        (gradient,) = torch.autograd.grad(logits.amax(-1).sum(), pixels)
    return gradient.abs()


@torch.no_grad()
def received_attention(
    model: SmallViT, images: Float[Tensor, "n h w"], block: int = -1
) -> Float[Tensor, "n rows cols"]:
    """Σ_i P_ij / tokens for each patch j, averaged over heads: the share of a block's attention that it receives.

    The shares of an image sum to one; uniform attention gives each patch 1/tokens. The result is a grid of patches,
    at their positions in the image.

    Raises `InputError` if images do not have the shape (n, h, w), or the model has no such block.
    """
    if images.ndim != 3:
        raise InputError(f"received_attention expects images of shape (n, h, w), got {tuple(images.shape)}")
    if not -len(model.blocks) <= block < len(model.blocks):
        raise InputError(f"received_attention expects one of the model's {len(model.blocks)} blocks, got block={block}")
    asked: list[Tensor] = []
    layer = model.blocks[block].get_submodule("qkv")  # from tokens to queries, keys and values
    hook = layer.register_forward_hook(lambda _layer, _given, out: asked.append(out))
    try:
        model(images)
    finally:
        hook.remove()
    q, k, _ = asked[0].unflatten(-1, (3, model.heads, -1)).permute(2, 0, 3, 1, 4)
    mass = Attention(q, k).column_mass().mean(1)
    return (mass / mass.shape[-1]).unflatten(-1, (images.shape[1] // model.patch, -1))

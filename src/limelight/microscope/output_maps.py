"""What a head writes of what it reads: W_O W_V of each head, from the weights of a layer.

A head moves W_O,h W_V,h x_j from token j to token i, with the weight P_ij. This map is D × D, of rank e at most, where
D is the model's width and e the head's. Its nonzero eigenvalues are those of the e × e matrix W_V,h W_O,h, since AB and
BA share them; so the large matrix is never made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.similarity import upcast

_VALUES = ("v_proj", "value", "v", "v_lin")
_OUTPUTS = ("o_proj", "out_proj", "o", "out_lin", "c_proj")
_OF_PARENT = "output.dense"  # BERT and its kin project the heads in the module beside


@torch.no_grad()
def value_then_output(model: nn.Module, layer: str, heads: int) -> Float[Tensor, "heads e e"] | None:
    """W_V,h W_O,h of each head of a layer, by its name in the model; None if its two projections are not known.

    They are known in `nn.MultiheadAttention`, and where a layer of transformers has them as modules of a usual name.
    Of grouped heads, several share W_V.
    """
    own = model.get_submodule(layer) if layer in dict(model.named_modules()) else model
    value, output = _value(own), _output(model, own, layer)
    if value is None or output is None or output.shape[1] % heads:
        return None
    width = output.shape[1] // heads
    if value.shape[0] % width or value.shape[1] != output.shape[0] or heads % (value.shape[0] // width):
        return None
    of_heads = value.unflatten(0, (-1, width))
    of_heads = of_heads.repeat_interleave(heads // len(of_heads), 0)
    return upcast(of_heads) @ upcast(output.unflatten(1, (heads, width)).transpose(0, 1))


def _value(layer: nn.Module) -> Float[Tensor, "values D"] | None:
    if isinstance(layer, nn.MultiheadAttention):
        return layer.v_proj_weight if layer.in_proj_weight is None else layer.in_proj_weight.chunk(3)[2]
    found = next((matrix for name in _VALUES for matrix in _matrix(layer, name)), None)
    if found is None:  # GPT-2 has queries, keys and values in one
        found = next((matrix.chunk(3)[2] for matrix in _matrix(layer, "c_attn") if not len(matrix) % 3), None)
    return found


def _output(model: nn.Module, layer: nn.Module, name: str) -> Float[Tensor, "D heads_e"] | None:
    own = next((matrix for output in _OUTPUTS for matrix in _matrix(layer, output)), None)
    parent = model.get_submodule(name.rpartition(".")[0]) if "." in name else layer
    return next(_matrix(parent, _OF_PARENT), None) if own is None else own


def _matrix(layer: nn.Module, name: str) -> Iterator[Float[Tensor, "out in"]]:
    """The matrix of a linear map within the layer; transformers' Conv1D keeps it transposed."""
    try:
        found = layer.get_submodule(name)
    except AttributeError:
        return
    weight = getattr(found, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 2 and weight.is_floating_point():
        yield weight.mT if type(found).__name__ == "Conv1D" else weight

"""What was seen, in the form that another program takes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.microscope.scope import Scope
from limelight.microscope.watched_attention import WatchedAttention

_MOST = 2e9  # bytes

Matrices = list[Float[Tensor, "1 heads n m"]]


@torch.no_grad()
def for_bertviz(scope: Scope) -> dict[str, Matrices]:
    """The matrices P of every layer, under the names of the arguments of BertViz' `head_view` and `model_view`.

    `head_view(**for_bertviz(scope), tokens=tokens)` for a model with self-attention alone, whose matrices are under
    "attention". With cross-attention they are under "encoder_attention", "decoder_attention" and "cross_attention",
    and the tokens are `encoder_tokens` and `decoder_tokens`. Each layer has (1, heads, n, m), in float32.

    This stores every matrix, which `scope.table()` and the page of `limelight inspect` do not. Raises `InputError` for
    more than 2 GB, and for several texts or steps.

    >>> import torch
    >>> from limelight import microscope
    >>> layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> with torch.no_grad(), microscope.attach(layer) as scope:
    ...     out = layer(torch.randn(1, 5, 8))
    >>> [P.shape for P in microscope.for_bertviz(scope)["attention"]]
    [torch.Size([1, 2, 5, 5])]
    """
    layers = [scope[layer] for layer in range(len(scope.layers))]
    size = sum(4 * P.shape[0] * P.shape[1] * P.shape[2] for P in layers)
    if size > _MOST:
        raise InputError(
            f"the matrices of {len(layers)} layers would take {size / 1e9:.1f} GB; choose a shorter text, or look at "
            "heads one by one with scope[layer, head].topk(8)"
        )
    last_of_encoder = next((at for at, P in enumerate(layers) if P.is_cross), 0) - 1
    out: dict[str, Matrices] = {}
    for at, P in enumerate(layers):
        out.setdefault(_argument(P, at, last_of_encoder), []).append(P.dense()[None].float())
    return out


def _argument(P: WatchedAttention, at: int, last_of_encoder: int) -> str:
    """The name of BertViz' argument; an encoder's layers run before the first block with cross-attention."""
    if P.is_cross:
        return "cross_attention"
    if last_of_encoder < 0:
        return "attention"
    return "encoder_attention" if at < last_of_encoder else "decoder_attention"

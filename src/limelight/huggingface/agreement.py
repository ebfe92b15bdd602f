"""A check that the arguments a layer passes to transformers' interface determine all that its attention does.

A layer passes queries, keys, values and arguments to the attention function whose name is in its config; for "eager"
that is a function in the model's own file. If that function does more than the arguments say (adds a term that the
layer stores, uses another scale), Limelight's function would silently compute something else. So the first time that a
layer of a class calls with a set of arguments, both functions are evaluated on four random queries and keys of the
layer's shape, with the dot product and the softmax, and must agree. This takes some milliseconds once, and does not
change the inputs, the results or the random state.
"""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads_operator import heads_operator, read_masks
from limelight.huggingface.layers import eager_function
from limelight.normalization import Softmax
from limelight.similarity import Dot

_TOKENS = 4
_SPREAD = 6.0  # the standard deviation of the random scores, large enough that a cap at 50 makes a difference
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
_agreed: WeakKeyDictionary[type, set[tuple[Any, ...]]] = WeakKeyDictionary()


def require_agreement(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: str,
    scaling: float | Tensor | None,
    layer_arguments: dict[str, Any],
) -> None:
    """Raise `InputError` if the layer's own attention differs from Limelight's with the same arguments.

    mask is "none", "causal" or "given"; `layer_arguments` are the other arguments that the layer passes. The comparison
    is made once for each class and set of arguments. It is left out while a graph is compiled, and for tensors without
    data.
    """
    if torch.compiler.is_compiling() or type(query) is not Tensor or query.is_meta:
        return
    sizes = (query.shape[-3], key.shape[-3], key.shape[-1], value.shape[-1], query.dtype)
    case = (mask, scaling is None, *sizes, *(name for name, given in layer_arguments.items() if given is not None))
    kind: Any = type(module)
    agreed = _agreed.setdefault(kind, set())
    if case in agreed:
        return
    own = eager_function(kind)
    if own is not None:
        _compare(own, module, query, key, value, mask, scaling, layer_arguments)
    agreed.add(case)


@torch.no_grad()
def _compare(
    own: Any,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: str,
    scaling: Any,
    layer_arguments: dict[str, Any],
) -> None:
    layer = type(module).__name__
    given = _probe(own, layer, query, layer_arguments)
    q, k, v = (_random(x.shape[-3], x.shape[-1], query, seed) for seed, x in enumerate((query, key, value)))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    q = q * (_SPREAD / (q.shape[-1] ** 0.5 * abs(float(scale)) + 1e-30))
    hidden = _masks(query)[mask]
    with torch.autocast(query.device.type, enabled=False):
        try:
            right = own(module, q, k, v, hidden, dropout=0.0, **given, **_scaling(own, scaling, scale))[0]
        except Exception as error:
            raise InputError(
                f"{layer}'s own attention could not be compared with Limelight's "
                f"({type(error).__name__}: {error}); use 'eager' for this model"
            ) from error
        allowed, biases = read_masks(q, k, hidden)
        tables, softcap = (*biases, given.get("position_bias")), given.get("softcap")
        sinks = given.get("s_aux", given.get("sinks"))
        P = heads_operator(q, k, Dot(), Softmax(), allowed, biases=tables, scale=scaling, softcap=softcap, sinks=sinks)
        out = P.apply(v).transpose(1, 2)
    size = max(1.0, v.abs().max().item())
    if out.shape != right.shape or not (out - right).abs().max() <= _TOLERANCE[query.dtype] * size:
        raise InputError(
            f"{layer}'s own attention does more than the arguments say that it passes to transformers' interface, so "
            "that any other function computes something else; use 'eager' for this model"
        )


def _scaling(own: Any, scaling: Any, default: float) -> dict[str, Any]:
    """The scale as an argument for eager: the layer's, or the default of the dot product if eager requires one."""
    required = getattr(inspect.signature(own).parameters.get("scaling"), "default", None) is inspect.Parameter.empty
    return {"scaling": default if scaling is None else scaling} if required or scaling is not None else {}


def _probe(own: Any, layer: str, query: Tensor, layer_arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments for `_TOKENS` random tokens: tensors over tokens are drawn at random, others are kept."""
    heads = query.shape[-3]
    out: dict[str, Any] = {}
    named = inspect.signature(own).parameters
    for name, value in layer_arguments.items():
        if name == "position_bias" and value is not None:
            out[name] = _random(heads, _TOKENS, query, 3)
        elif name == "sinks" and value is not None:
            out[name] = _random(heads, 1, query, 4)
        elif name == "s_aux" or isinstance(value, (bool, int, float, str)):
            out[name] = value
        elif value is not None and name in named:
            raise InputError(
                f"{layer}'s own attention reads {name}, which Limelight's cannot; use 'eager' for this model"
            )
    return {name: value for name, value in out.items() if value is not None}


def _random(heads: int, width: int, like: Tensor, seed: int) -> Tensor:
    drawn = torch.randn(1, heads, _TOKENS, width, generator=torch.Generator().manual_seed(seed))
    return drawn.to(like.device, like.dtype)


def _masks(like: Tensor) -> dict[str, Tensor]:
    """The mask (1, 1, n, m) that eager adds to the scores, for each kind of mask."""
    none = torch.zeros(1, 1, _TOKENS, _TOKENS, device=like.device, dtype=like.dtype)
    ones, least = torch.ones_like(none, dtype=torch.bool), torch.finfo(like.dtype).min
    given = none.masked_fill(ones.triu(2), -1.5).masked_fill(ones.tril(-2), least)
    return {"none": none, "causal": none.masked_fill(ones.triu(1), least), "given": given}

"""Is what a layer tells the interface all that its attention does?

A layer hands queries, keys, values and arguments to whichever attention function has the name in its config; under
"eager" that is a function of the model's own file. Should that function do more than the arguments tell (add a term
that the layer holds, use another scale), a function of ours would silently compute something else. So the first time
that a layer of a class calls with a set of arguments, both are asked for four random queries and keys of the layer's
shape and must agree, for the dot product and the softmax. It costs some milliseconds once, and never touches the
inputs, the results or the random state.
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
_SPREAD = 6.0  # of the scores, so that a cap at 50 would show
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
_agreed: WeakKeyDictionary[type, set[tuple[Any, ...]]] = WeakKeyDictionary()


def require_agreement(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: str,
    scaling: float | Tensor | None,
    told: dict[str, Any],
) -> None:
    """Raise `InputError` where the layer's own attention differs from what it tells; compared once for each class.

    mask is "none", "causal" or "given"; `told` are the arguments beside it. Nothing is compared while a graph is
    compiled, and for tensors without data.
    """
    if torch.compiler.is_compiling() or type(query) is not Tensor or query.is_meta:
        return
    sizes = (query.shape[-3], key.shape[-3], key.shape[-1], value.shape[-1], query.dtype)
    case = (mask, scaling is None, *sizes, *(name for name, given in told.items() if given is not None))
    kind: Any = type(module)
    agreed = _agreed.setdefault(kind, set())
    if case in agreed:
        return
    own = eager_function(kind)
    if own is not None:
        _compare(own, module, query, key, value, mask, scaling, told)
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
    told: dict[str, Any],
) -> None:
    layer = type(module).__name__
    given = _probe(own, layer, query, told)
    q, k, v = (_random(x.shape[-3], x.shape[-1], query, seed) for seed, x in enumerate((query, key, value)))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    q = q * (_SPREAD / (q.shape[-1] ** 0.5 * abs(float(scale)) + 1e-30))
    hidden = _masks(query)[mask]
    with torch.autocast(query.device.type, enabled=False):
        try:
            right = own(module, q, k, v, hidden, dropout=0.0, **given, **_scaling(own, scaling, scale))[0]
        except Exception as error:
            raise InputError(
                f"{layer}'s own attention could not be compared with what it tells transformers' interface "
                f"({type(error).__name__}: {error}); use 'eager' for this model"
            ) from error
        allowed, biases = read_masks(*hidden.shape[-2:], hidden)
        tables, softcap = (*biases, given.get("position_bias")), given.get("softcap")
        sinks = given.get("s_aux", given.get("sinks"))
        P = heads_operator(q, k, Dot(), Softmax(), allowed, biases=tables, scale=scaling, softcap=softcap, sinks=sinks)
        out = P.apply(v).transpose(1, 2)
    size = max(1.0, v.abs().max().item())
    if out.shape != right.shape or not (out - right).abs().max() <= _TOLERANCE[query.dtype] * size:
        raise InputError(
            f"{layer}'s own attention does more than it tells transformers' interface, so that any other function "
            "computes something else; use 'eager' for this model"
        )


def _scaling(own: Any, scaling: Any, default: float) -> dict[str, Any]:
    """The scale that was told, or the dot product's own where eager has none itself."""
    required = getattr(inspect.signature(own).parameters.get("scaling"), "default", None) is inspect.Parameter.empty
    return {"scaling": default if scaling is None else scaling} if required or scaling is not None else {}


def _probe(own: Any, layer: str, query: Tensor, told: dict[str, Any]) -> dict[str, Any]:
    """The arguments for `_TOKENS` tokens: tensors of tokens are drawn anew, numbers and tensors of heads stay."""
    heads = query.shape[-3]
    out: dict[str, Any] = {}
    named = inspect.signature(own).parameters
    for name, value in told.items():
        if name == "position_bias" and value is not None:
            out[name] = _random(heads, _TOKENS, query, 3)
        elif name == "sinks" and value is not None:
            out[name] = _random(heads, 1, query, 4)
        elif name == "s_aux" or isinstance(value, (bool, int, float, str)):
            out[name] = value
        elif value is not None and name in named:
            raise InputError(
                f"{layer}'s own attention reads {name}, which limelight's cannot; use 'eager' for this model"
            )
    return {name: value for name, value in out.items() if value is not None}


def _random(heads: int, width: int, like: Tensor, seed: int) -> Tensor:
    drawn = torch.randn(1, heads, _TOKENS, width, generator=torch.Generator().manual_seed(seed))
    return drawn.to(like.device, like.dtype)


def _masks(like: Tensor) -> dict[str, Tensor]:
    """What eager is given, (1, 1, n, m) and added to the scores, for each kind of mask."""
    none = torch.zeros(1, 1, _TOKENS, _TOKENS, device=like.device, dtype=like.dtype)
    ones, least = torch.ones_like(none, dtype=torch.bool), torch.finfo(like.dtype).min
    given = none.masked_fill(ones.triu(2), -1.5).masked_fill(ones.tril(-2), least)
    return {"none": none, "causal": none.masked_fill(ones.triu(1), least), "given": given}

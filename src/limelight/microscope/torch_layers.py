"""Watching torch's own layers, and direct calls of `scaled_dot_product_attention`.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` have a fast path in inference, one fused operation that shows
neither queries nor keys, and which they leave as soon as a hook or a function mode could see them. So their `forward`
is wrapped instead: the wrapper calls it unchanged, and computes queries and keys once more from its arguments. Other
modules are seen through a `TorchFunctionMode`, which gets every call of `scaled_dot_product_attention`; the name of the
layer is that of the innermost module of the model on the call stack.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limelight.errors import InputError
from limelight.microscope.recorder import Observation, Recorder
from limelight.microscope.text_mask import split


@contextmanager
def watching_torch(names: dict[nn.Module, str], recorder: Recorder) -> Iterator[TorchFunctionMode]:
    """Within the block these modules report to the recorder; while the model runs, the mode has to be entered."""
    mode = _Sdpa(names, recorder)
    watchers: dict[nn.Module, Callable[..., Any]] = {}
    for module, name in names.items():
        kind: Any = type(module)
        if kind.forward is nn.MultiheadAttention.forward:
            watchers[module] = functools.partial(_multihead, _Layer(name, module, recorder, mode))
        elif kind.forward is nn.TransformerEncoderLayer.forward and _is_plain(module):
            own: Any = module
            attention = _Layer(names[own.self_attn], own.self_attn, recorder, mode)
            watchers[module] = functools.partial(_encoder_layer, own, attention)
        elif kind.forward is nn.TransformerEncoder.forward and _is_plain_encoder(module):
            layers = [names[layer.self_attn] for layer in module.layers]  # type: ignore[union-attr]
            watchers[module] = functools.partial(_encoder, mode, layers)
    before = {module: module.__dict__.get("forward") for module in watchers}
    try:
        for module, watcher in watchers.items():
            module.__dict__["forward"] = functools.wraps(module.forward)(functools.partial(watcher, module.forward))
        yield mode
    finally:
        for module, forward in before.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def is_watched_layer(module: nn.Module) -> bool:
    """True for torch's own attention layer."""
    kind: Any = type(module)
    return kind.forward is nn.MultiheadAttention.forward


def _is_plain(layer: nn.Module) -> bool:
    return is_watched_layer(layer.self_attn)  # type: ignore[arg-type]


def _is_plain_encoder(encoder: nn.Module) -> bool:
    layers: Any = encoder.layers
    return all(type(layer).forward is nn.TransformerEncoderLayer.forward and _is_plain(layer) for layer in layers)


def _encoder(mode: _Sdpa, layers: list[str], forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """nn.TransformerEncoder.forward, which leaves out padding where no function mode could see it.

    It then hands its layers nested tensors, of which no head can be changed.
    """
    with nullcontext() if any(map(mode.recorder.changes, layers)) else mode.left():
        return forward(*args, **kwargs)


class _Sdpa(TorchFunctionMode):
    """Sees calls of `scaled_dot_product_attention` by modules of the model whose layer is not watched already."""

    def __init__(self, names: dict[nn.Module, str], recorder: Recorder) -> None:
        super().__init__()
        self.names, self.recorder = names, recorder
        self.depth = 0  # > 0 while the mode is entered

    def __enter__(self) -> Any:
        self.depth += 1
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *problem: Any) -> None:
        self.depth -= 1
        super().__exit__(*problem)  # type: ignore[no-untyped-call]

    @contextmanager
    def left(self) -> Iterator[None]:
        """Outside the mode, within the block: torch's layers leave their fast path where a mode is entered."""
        if not self.depth:
            yield
            return
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        if func is F.scaled_dot_product_attention and self.recorder.is_running and not self.recorder.is_told:
            module = _caller(self.names)
            if module is not None:
                seen, mixed = _sdpa(self.names[module], module, out, *args, **given), _four(out).transpose(1, 2)
                changed, _ = self.recorder.result(seen, mixed)
                return out if changed is mixed else changed.transpose(1, 2).reshape(out.shape)
        elif func is F.multi_head_attention_forward and self.recorder.is_running:
            raise InputError(
                f"{_name_of(_caller(self.names), self.names)} calls torch's multi_head_attention_forward itself, which "
                "cannot be watched; use nn.MultiheadAttention or scaled_dot_product_attention in it"
            )
        return out


def _caller(names: dict[nn.Module, str]) -> nn.Module | None:
    """The innermost module of the model that is running, from the `self` of the frames on the call stack."""
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and module in names:
            return module
        frame = frame.f_back
    return None


def _name_of(module: nn.Module | None, names: dict[nn.Module, str]) -> str:
    return "the model" if module is None else names[module] or type(module).__name__


def _sdpa(
    name: str,
    module: nn.Module,
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Observation:
    if query.is_nested:
        raise InputError(f"{name} gives attention a nested tensor, which cannot be watched; pad the texts")
    query, key, value, out = (_four(x) for x in (query, key, value, out))
    mask = None if attn_mask is None else _four(attn_mask).expand(-1, -1, query.shape[-2], key.shape[-2])
    allowed, bias = split(mask)
    return Observation(
        name,
        type(module).__name__,
        query,
        key,
        query.shape[-1] ** -0.5 if scale is None else float(scale),
        allowed=allowed,
        is_causal=is_causal,
        bias=bias,
        is_cross=_is_cross(query.shape[-2], key.shape[-2], allowed),
        masks=(attn_mask,),
        value=value if not dropout_p else None,
        output=lambda mixed, text, queries: (mixed, out[text].transpose(0, 1)[queries]),
    )


def _four(x: Tensor) -> Tensor:
    """(batch, heads, n, d): leading dimensions are added, or joined to one batch."""
    while x.ndim < 4:
        x = x.unsqueeze(0) if x.ndim == 2 else x.unsqueeze(1)
    return x if x.ndim == 4 else x.flatten(0, -4)


def _is_cross(n: int, m: int, allowed: Tensor | None) -> bool:
    """True if the queries cannot be the last n of the m tokens, as with a cache: several of them see the same keys.

    A single query, as in generation, is taken for the last token.
    """
    if n == m or n == 1:
        return False
    return n > m or allowed is None or bool(allowed.triu(m - n + 1).any())


@dataclass(frozen=True)
class _Layer:
    """A layer whose `forward` is wrapped."""

    name: str
    module: nn.Module
    recorder: Recorder
    mode: _Sdpa


class _AttentionInputs(NamedTuple):
    """What a call of nn.MultiheadAttention attends to and from, in its own order and with its own masks."""

    query: Tensor
    key: Tensor
    value: Tensor
    key_padding_mask: Tensor | None
    attn_mask: Tensor | None


def _multihead(
    layer: _Layer,
    forward: Callable[..., Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """nn.MultiheadAttention.forward, and then a record of it, or its output with other heads."""
    recorder, given = layer.recorder, _AttentionInputs(query, key, value, key_padding_mask, attn_mask)
    with layer.mode.left():
        if not (recorder.is_running and recorder.changes(layer.name)):
            out = forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )  # fmt: skip
            if recorder.is_running:
                _record_multihead(layer, given, out[0])
            return out
        out = forward(query, key, value, key_padding_mask, need_weights, attn_mask, False, is_causal)
        changed, weights = _changed_multihead(layer, given, *out)
    return changed, weights.mean(-3) if weights is not None and average_attn_weights else weights


@torch.no_grad()
def _record_multihead(layer: _Layer, given: _AttentionInputs, out: Tensor | None) -> None:
    if given.query.is_nested:
        x, padding = _padded(given.query)
        given, out = _AttentionInputs(x, x, x, padding, given.attn_mask), None
    layer.recorder.record(_seen_multihead(layer, given, out))


def _changed_multihead(
    layer: _Layer, given: _AttentionInputs, out: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The layer's output with changed heads: these enter its output projection together, which `out` has passed.

    Before that projection torch's layer shows nothing, so the other heads are computed once more, by torch's function.
    """
    if given.query.is_nested:
        raise InputError(
            f"{layer.name or 'the layer'} got a nested tensor, whose heads cannot be changed; pad the texts"
        )
    own: Any = layer.module
    seen = _seen_multihead(layer, given, out)
    mixed = out if seen.value is None else _attended(seen).transpose(1, 2)
    one = None if weights is None else weights if weights.ndim == 4 else weights[None]
    changed, one = layer.recorder.result(seen, mixed, one)
    if changed is mixed:
        return out, weights
    projected = F.linear(changed.flatten(2).to(out.dtype), own.out_proj.weight, own.out_proj.bias)
    if given.query.ndim == 2:
        return projected[0], None if one is None else one[0]
    return projected if own.batch_first else projected.transpose(0, 1), one


def _attended(seen: Observation) -> Tensor:
    """The output of torch's attention for what was seen, before the output projection (B, H, n, e)."""
    assert seen.value is not None
    mask = seen.allowed
    if seen.bias is not None:
        mask = seen.bias if mask is None else seen.bias.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(seen.query, seen.key, seen.value, mask, scale=seen.scale)


def _seen_multihead(layer: _Layer, given: _AttentionInputs, out: Tensor | None) -> Observation:
    own: Any = layer.module
    query, key, value, key_padding_mask, attn_mask = given
    is_cross = query is not key and not (query.shape == key.shape and torch.equal(query, key))
    query, key, value = (_batch_first(x, own.batch_first) for x in (query, key, value))
    q, k, v = _projections(own, query, key, value)
    added = k.shape[-2] - key.shape[-2]
    allowed, bias = _masks(key_padding_mask, attn_mask, q, key.shape[-2], added)
    drops = own.training and own.dropout > 0

    def output(mixed: Tensor, text: int, queries: Tensor) -> tuple[Tensor, Tensor]:
        assert out is not None
        theirs = _batch_first(out, own.batch_first)[text][queries]
        return F.linear(mixed.flatten(1).to(theirs.dtype), own.out_proj.weight, own.out_proj.bias), theirs

    return Observation(
        layer.name,
        type(own).__name__,
        q,
        k,
        q.shape[-1] ** -0.5,
        allowed=allowed,
        bias=bias,
        is_cross=is_cross,
        offset=0 if added and not is_cross else None,
        masks=(key_padding_mask, attn_mask),
        value=None if drops or out is None else v,
        output=output,
    )


def _batch_first(x: Tensor, batch_first: bool) -> Tensor:
    if x.ndim == 2:
        return x[None]
    return x if batch_first else x.transpose(0, 1)


def _padded(x: Tensor) -> tuple[Tensor, Tensor]:
    """A nested tensor (B, ·, d) as a padded one, and a mask (B, n) that is True at padding, as torch's layers take."""
    lengths = torch.tensor([len(own) for own in x.unbind()], device=x.device)
    padded = x.to_padded_tensor(0.0)
    return padded, torch.arange(padded.shape[1], device=x.device) >= lengths[:, None]


def _projections(own: Any, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V (batch, heads, length, width), with the keys and values that the layer appends."""
    packed, bias = own.in_proj_weight, own.in_proj_bias
    weights = (own.q_proj_weight, own.k_proj_weight, own.v_proj_weight) if packed is None else packed.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    parts = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
    q, k, v = (x.unflatten(-1, (own.num_heads, -1)).transpose(1, 2) for x in parts)
    if own.bias_k is not None:
        learned = (b.unflatten(-1, (own.num_heads, -1)).transpose(1, 2) for b in (own.bias_k, own.bias_v))
        k, v = (torch.cat([x, b.expand(len(x), -1, -1, -1)], -2) for x, b in zip((k, v), learned, strict=True))
    if own.add_zero_attn:
        k, v = (torch.cat([x, torch.zeros_like(x[..., :1, :])], -2) for x in (k, v))
    return q, k, v


def _masks(
    key_padding_mask: Tensor | None, attn_mask: Tensor | None, q: Tensor, m: int, added: int
) -> tuple[Tensor | None, Tensor | None]:
    """torch's masks, True = blocked or numbers to add, as one boolean mask, True = seen, and one table of numbers."""
    batch, heads, n, _ = q.shape
    given = []
    if attn_mask is not None:
        given.append(attn_mask.expand(1, 1, -1, -1) if attn_mask.ndim == 2 else attn_mask.unflatten(0, (batch, heads)))
    if key_padding_mask is not None:
        given.append(key_padding_mask.reshape(batch, 1, 1, m).expand(-1, -1, n, -1))
    allowed, bias = None, None
    for mask in given:
        seen, numbers = (~mask, None) if mask.dtype == torch.bool else split(mask)
        if seen is not None:
            seen = F.pad(seen, (0, added), value=True)
            allowed = seen if allowed is None else allowed & seen
        if numbers is not None:
            numbers = F.pad(numbers, (0, added))
            bias = numbers if bias is None else bias + numbers
    return allowed, bias


def _encoder_layer(
    own: Any,
    attention: _Layer,
    forward: Callable[..., Any],
    src: Tensor,
    src_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Any:
    """nn.TransformerEncoderLayer.forward, and a record of its attention where its fast path passed that over."""
    recorder, padding = attention.recorder, src_key_padding_mask
    if recorder.is_running and recorder.changes(attention.name):
        return forward(src, src_mask, src_key_padding_mask, is_causal)  # within the mode, without the fast path
    runs = recorder.runs_of(attention.name)
    with attention.mode.left():
        out = forward(src, src_mask, src_key_padding_mask, is_causal)
        if recorder.is_running and recorder.runs_of(attention.name) == runs:
            if src.is_nested:
                src, padding = _padded(src)
            x = own.norm1(src) if own.norm_first else src
            _record_multihead(attention, _AttentionInputs(x, x, x, padding, src_mask), None)
    return out

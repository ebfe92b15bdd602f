"""Watching the layers of transformers that get their attention function from its AttentionInterface.

Each such layer gets a copy of its configuration that names the watcher. The watcher calls the function that the layer
would have called, with the same arguments, so that the output is the same; and records what the softmax depends on.
Masks are made from the model's configuration, which stays as it was.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from limelight.errors import InputError
from limelight.huggingface.layers import own_attention, uses_attention_interface
from limelight.microscope.recorder import Observation, Recorder
from limelight.microscope.text_mask import split

NAME = "limelight_microscope"
_WATCHED = (None, "eager", "sdpa")
_OTHER_TEXT = ("key_value_states", "encoder_hidden_states", "cross_attention_states", "context", "context_states")


@contextmanager
def watching_interface(names: dict[nn.Module, str], recorder: Recorder) -> Iterator[None]:
    """Within the block, the layers of these modules that use the interface report to the recorder."""
    layers = {module: name for module, name in names.items() if uses_attention_interface(module)}
    for layer, name in layers.items():
        _require_watchable(layer, name)
    AttentionInterface.register(NAME, _watched_attention)
    before = {layer: layer.__dict__["config"] for layer in layers}
    hooks = []
    try:
        for layer, name in layers.items():
            config = copy.deepcopy(before[layer])
            config._attn_implementation = NAME
            is_eager = before[layer]._attn_implementation in (None, "eager")
            watcher = _Watcher(name, own_attention(layer), is_eager, recorder)
            layer.__dict__.update(config=config, _limelight_watcher=watcher)
            hooks.append(layer.register_forward_pre_hook(watcher.reads, with_kwargs=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, config in before.items():
            layer.__dict__["config"] = config
            layer.__dict__.pop("_limelight_watcher", None)


def _require_watchable(layer: nn.Module, name: str) -> None:
    used = layer.__dict__["config"]._attn_implementation
    if used == NAME:
        raise InputError("this model is watched already; leave that `with` block first")
    if used not in _WATCHED:
        raise InputError(
            f"attach reads the masks of 'eager' and 'sdpa', and {name} ({type(layer).__name__}) uses {used!r}; call "
            "model.set_attn_implementation('sdpa') first"
        )
    if own_attention(layer) is None:
        raise InputError(f"{name} cannot be watched: no function of {type(layer).__name__} computes its attention")


class _Watcher:
    """The watcher of one layer."""

    def __init__(self, name: str, own: Callable[..., Any] | None, is_eager: bool, recorder: Recorder) -> None:
        assert own is not None
        self.name, self.own, self.is_eager, self.recorder = name, own, is_eager, recorder
        self.is_cross = False

    def reads(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before the layer runs: notes whether it gets the states of another text."""
        given = inspect.signature(layer.forward).bind_partial(*args, **kwargs).arguments
        told = getattr(layer, "is_cross_attention", False) or "Cross" in type(layer).__name__
        self.is_cross = bool(told) or any(isinstance(given.get(name), Tensor) for name in _OTHER_TEXT)

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
    ) -> Any:
        with self.recorder.telling():
            out = self.own(module, query, key, value, attention_mask, **given)
        if not self.recorder.is_running:
            return out
        seen = self._seen(module, query, key, value, attention_mask, given, out[0])
        mixed, weights = self.recorder.result(seen, *out)
        return out if mixed is out[0] else (mixed, weights)

    def _seen(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        given: dict[str, Any],
        out: Tensor,
    ) -> Observation:
        n, m = query.shape[-2], key.shape[-2]
        mask = None if attention_mask is None else attention_mask[..., :m]
        bias, sinks = given.get("position_bias"), given.get("s_aux")
        if self.is_eager and mask is not None and mask.dtype == torch.bool:
            mask = mask.to(query.dtype)  # eager adds it, and hides nothing
        allowed, added = split(mask)
        is_causal = given.get("is_causal")
        is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        drops = given.get("dropout", 0.0) > 0  # then the output is not P @ value
        return Observation(
            self.name,
            type(module).__name__,
            query,
            key,
            _scale(given.get("scaling"), query, self.name),
            allowed=allowed,
            is_causal=not self.is_eager and mask is None and n > 1 and bool(is_causal),
            bias=added if bias is None else bias if added is None else bias + added,
            softcap=given.get("softcap"),
            sinks=given.get("sinks") if sinks is None else sinks,
            is_cross=self.is_cross,
            masks=(attention_mask, bias),
            value=None if drops else value,
            output=lambda mixed, text, queries: (mixed, out[text][queries]),
        )


def _scale(scaling: Any, query: Tensor, name: str) -> float:
    if isinstance(scaling, Tensor) and scaling.numel() > 1:
        raise InputError(f"{name} cannot be watched: its scale is a tensor {tuple(scaling.shape)} instead of a number")
    return query.shape[-1] ** -0.5 if scaling is None else float(scaling)


def _watched_attention(module: nn.Module, *args: Any, **given: Any) -> Any:
    return module._limelight_watcher(module, *args, **given)  # type: ignore[operator]

"""The layers of a model that use transformers' AttentionInterface, and the function that "eager" would run in them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def uses_attention_interface(layer: nn.Module) -> bool:
    """True if this layer itself gets its attention function from the interface, by the name in its own `config`."""
    kind: Any = type(layer)
    return "config" in layer.__dict__ and _interface_method(kind) is not None


@cache
def eager_function(kind: type) -> Callable[..., Any] | None:
    """The function that a layer of this class calls under "eager", or None if it cannot be found."""
    method = _interface_method(kind)
    if method is None:
        return None
    for name in method.__code__.co_names:
        function = method.__globals__.get(name)
        if name.endswith("eager_attention_forward") and callable(function):
            return function
    return None


def own_attention(layer: nn.Module) -> Callable[..., Any] | None:
    """The function that this layer calls now, by the name in its `config`, or None if it cannot be found."""
    kind: Any = type(layer)
    method, eager = _interface_method(kind), eager_function(kind)
    name = layer.__dict__["config"]._attn_implementation
    if method is None or name in (None, "eager"):
        return eager
    return method.__globals__["ALL_ATTENTION_FUNCTIONS"].get_interface(name, eager)


@cache
def _interface_method(kind: type) -> Any:
    """The method of this class that gets the attention function from the interface, or None."""
    for method in _methods(kind):
        if "ALL_ATTENTION_FUNCTIONS" in method.__code__.co_names:
            return method
    return None


def _methods(kind: type) -> Iterator[Any]:
    """The methods that instances run: for each name the overriding one, and those that it may reach by super()."""
    hidden: set[str] = set()
    for owner in kind.__mro__:
        if owner in (nn.Module, PreTrainedModel):
            return
        for name, value in vars(owner).items():
            method = inspect.unwrap(value) if callable(value) else None
            if name in hidden or not isinstance(getattr(method, "__code__", None), CodeType):
                continue
            if "super" not in method.__code__.co_names:  # type: ignore[union-attr]
                hidden.add(name)
            yield method

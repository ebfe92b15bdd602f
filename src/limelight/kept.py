"""Properties that are computed once for each mode of autograd and then kept.

A value that was computed without gradients must not be used in a call that needs them, and one that was computed in
inference mode must not be used outside it. So there is one value for each mode. While a graph is compiled nothing is
kept, since the compiler itself removes repeated computations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

_Value = TypeVar("_Value")


class kept(Generic[_Value]):  # noqa: N801 (a decorator, as `property` is)
    """A property that is computed when it is first read, once in each mode."""

    def __init__(self, make: Callable[[Any], _Value]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, owner: Any, kind: type) -> _Value:
        if torch.compiler.is_compiling():
            return self._make(owner)
        values = _values(owner, self._make.__name__)
        mode = _mode()
        if mode not in values:
            values[mode] = self._make(owner)
        value: _Value = values[mode]
        return value


def keep(owner: Any, name: str, value: Any) -> None:
    """Store a value for the `kept` property `name` that was computed together with something else."""
    _values(owner, name)[_mode()] = value


def kept_value(owner: Any, name: str) -> Any:
    """The stored value of the `kept` property `name`, or None if it has not been computed."""
    return _values(owner, name).get(_mode())


def _values(owner: Any, name: str) -> dict[tuple[bool, bool], Any]:
    values: dict[tuple[bool, bool], Any] = owner.__dict__.setdefault(f"kept {name}", {})
    return values


def _mode() -> tuple[bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

"""Values that an object computes once and keeps, apart for each way in which autograd looks at them.

A value that was computed without gradients must not serve a call that wants them, and one that was computed in
inference mode must not serve any other. So each mode has a value of its own. While a graph is compiled nothing is
kept: the compiler finds for itself what is computed twice.
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
    """Let the `kept` property `name` have this value, which came with something else."""
    _values(owner, name)[_mode()] = value


def kept_value(owner: Any, name: str) -> Any:
    """The value of the `kept` property `name` if it is there already, else None."""
    return _values(owner, name).get(_mode())


def _values(owner: Any, name: str) -> dict[tuple[bool, bool], Any]:
    values: dict[tuple[bool, bool], Any] = owner.__dict__.setdefault(f"kept {name}", {})
    return values


def _mode() -> tuple[bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

"""Numbers that may differ from head to head: a bandwidth, a temperature, a scale.

One convention for all of them. Such a number is a Python number, a tensor or an `nn.Parameter`. A tensor has the
shape (), one number for all; (heads,), one for each head of scores (…, heads, n, m); or any shape that broadcasts
against (*batch, 1, 1). In a module a tensor becomes a buffer and a parameter becomes a parameter of the module, so that
`.to()`, `state_dict`, `deepcopy` and pickle include it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from limelight.errors import DtypeError, InputError
from limelight.tracing import holds


@dataclass(frozen=True)
class Range:
    """The numbers that are allowed: a description, and a predicate on numbers and tensors."""

    words: str
    contains: Callable[..., bool | Tensor]


POSITIVE = Range("positive and finite", lambda x: (x > 0) & (x < math.inf))
SHARE = Range("in [0, 1]", lambda x: (x >= 0) & (x <= 1))
FINITE = Range("finite", lambda x: (x > -math.inf) & (x < math.inf))


def hold(module: nn.Module, name: str, value: float | Tensor, allowed: Range) -> None:
    """Set module.name = value: a tensor as a buffer, a parameter as a parameter. Raises as `require` does."""
    require(f"{type(module).__name__}({name}=…)", value, allowed)
    module.__dict__.pop(name, None)  # a plain number that was set before
    if isinstance(value, Tensor):
        hold_tensor(module, name, value)
    else:
        setattr(module, name, float(value))


def hold_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    """Set module.name = value: as a parameter of the module if it is a parameter, otherwise as a buffer."""
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def require(name: str, value: float | Tensor, allowed: Range) -> None:
    """Raise `InputError` or `DtypeError` unless `value` is a number, or a tensor of numbers for heads, in the range."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise DtypeError(f"{name} expects a floating dtype, got {value.dtype}")
        if value.ndim > 1 and value.shape[-2:] != (1, 1):
            raise InputError(
                f"{name} expects a tensor of shape (), (heads,) or (*batch, 1, 1), got {tuple(value.shape)}"
            )
        found = value.detach()
        if not holds(allowed.contains(found).all()):  # type: ignore[union-attr]
            least, most = (x.item() for x in found.aminmax())
            raise InputError(f"{name} must be {allowed.words}, got a tensor of numbers from {least:g} to {most:g}")
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not allowed.contains(value):
        raise InputError(f"{name} must be {allowed.words}: a number or a tensor of numbers for heads; got {value!r}")


def require_count(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is a whole number ≥ 1: of heads, or of features."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} expects a whole number ≥ 1, got {value!r}")


def require_offset(name: str, value: object, least: int | None = None) -> None:
    """Raise `InputError` unless `value` is a whole number, ≥ `least` if that is given: the first query's position."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise InputError(
            f"{name} expects a whole number{'' if least is None else f' ≥ {least}'}, the position of the first query; "
            f"got {value!r}"
        )


def groups_of(heads: int, key_heads: int) -> int | None:
    """The number of query heads that share each key head, or None if they cannot be shared out equally."""
    if heads == key_heads:
        return 1
    return None if 0 in (heads, key_heads) or heads % key_heads else heads // key_heads


def per_head(value: float | Tensor) -> float | Tensor:
    """The number in a shape that broadcasts against scores (*batch, n, m): (heads,) becomes (heads, 1, 1)."""
    return value[:, None, None] if isinstance(value, Tensor) and value.ndim == 1 else value


def per_row(value: float | Tensor) -> float | Tensor:
    """The number in a shape that broadcasts against row statistics (*batch, n): (heads,) becomes (heads, 1)."""
    own = per_head(value)
    return own.reshape(own.shape[:-1]) if isinstance(own, Tensor) else own


def batch_shape_of(value: float | Tensor) -> tuple[int, ...]:
    """The batch dimensions in which the number differs; () for one number."""
    own = per_head(value)
    return tuple(own.shape[:-2]) if isinstance(own, Tensor) else ()


def learns(value: float | Tensor | None) -> bool:
    """True if the number requires a gradient."""
    return isinstance(value, Tensor) and value.requires_grad

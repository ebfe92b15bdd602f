"""Whether the entries of a tensor can be read now, and which kind of differentiation is active.

While a graph is compiled or exported, for tensors without data (meta, fake) and inside torch.func, a decision must not
depend on values. Every check of values, and every shortcut that depends on them, calls a function here first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from limelight.errors import InputError

_functorch = torch._C._functorch
_FAKE = "torch._subclasses.fake_tensor"  # not imported here: if it has not been imported, there are no fake tensors


_VALUES_ARE_CHECKED = ContextVar("_VALUES_ARE_CHECKED", default=True)


@contextmanager
def without_value_checks() -> Iterator[None]:
    """Within the block, calls do not read the values of tensors first: inputs are assumed to be finite and in range.

    To check that queries and keys are finite, that a bandwidth is positive, or whether a float mask is padding, a call
    reads a number from the device, one to five times. A GPU has to finish its work before each. In this block nothing
    is read, as in a compiled graph: for NaN or infinity the output is what torch's kernel returns, which on the CPU is
    zero for a query of NaN, and shortcuts that depend on values are not used. Shapes, dtypes and devices are still
    checked. Functions whose result depends on such a reading (`irreversibility`, `Sinkhorn` with a tolerance) still
    read values.

    >>> import torch
    >>> from limelight import attend, without_value_checks
    >>> query, key, value = torch.randn(2, 4), torch.randn(3, 4), torch.randn(3, 4)
    >>> with without_value_checks():
    ...     out = attend(query, key, value)
    >>> torch.allclose(out, attend(query, key, value), atol=1e-6)
    True
    """
    before = _VALUES_ARE_CHECKED.set(False)
    try:
        yield
    finally:
        _VALUES_ARE_CHECKED.reset(before)


def is_readable(x: Tensor) -> bool:
    """True if the entries of x can be read, and value checks are on."""
    if torch.compiler.is_compiling():
        return False
    return _VALUES_ARE_CHECKED.get() and _has_values(x)


def _has_values(x: Tensor) -> bool:
    if x.is_meta or _is_batched(x):
        return False
    return type(x) is Tensor or _FAKE not in sys.modules or not isinstance(x, sys.modules[_FAKE].FakeTensor)


def _is_batched(x: Tensor) -> bool:
    """True if x stands for many tensors, as inside `vmap`. Inside `grad` alone the entries can be read."""
    while _functorch.is_functorch_wrapped_tensor(x):
        if not _functorch.is_gradtrackingtensor(x):
            return True
        x = _functorch.get_unwrapped(x)
    return _functorch.is_legacy_batchedtensor(x)


def in_transform() -> bool:
    """True inside a transform of torch.func (`grad`, `vmap`, `jvp`, …) or of forward-mode differentiation.

    There Limelight's own autograd functions cannot be used: only torch's own operations have the rules.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_differentiated_again(*gradients: Tensor | None) -> bool:
    """True if the present backward pass will be differentiated itself, or runs for a batch of gradients at once.

    Then only torch's own operations may be used. An ordinary backward pass runs with grad mode off.
    """
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or any(x is not None and _functorch.is_legacy_batchedtensor(x) for x in gradients)


def is_autocast(x: Tensor) -> bool:
    """True inside `torch.autocast` for the device of x; False for meta tensors, which have no autocast."""
    if x.is_cpu:  # `x.device.type` makes a string, which takes ten times as long
        return torch.is_autocast_enabled("cpu")
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def holds(answer: Tensor) -> bool:
    """bool(answer), or True if it cannot be read: a condition that cannot be checked is assumed to hold."""
    return not is_readable(answer) or bool(answer)


def require_readable(x: Tensor, what: str, instead: str) -> None:
    """Raise `InputError` if `what` must read the entries of x and cannot. A compiled graph breaks there by itself."""
    if not torch.compiler.is_compiling() and not _has_values(x):
        raise InputError(
            f"{what} depends on the values of a tensor, which cannot be read for meta tensors and inside "
            f"torch.func.vmap; {instead}"
        )

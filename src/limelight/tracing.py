"""Can the entries of a tensor be looked at now, and which kind of differentiation is going on?

While a graph is compiled or exported, for tensors without data (meta, fake) and inside torch.func, a decision must not
depend on values. Every check of values and every short cut that depends on them asks here first.
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

_FAKE = "torch._subclasses.fake_tensor"  # not imported here: where nobody has, there are no fake tensors


_VALUES_ARE_CHECKED = ContextVar("_VALUES_ARE_CHECKED", default=True)


@contextmanager
def without_value_checks() -> Iterator[None]:
    """Within it no call looks at the values of tensors before it computes: inputs are taken to be finite and in range.

    To see that queries and keys are finite, that a bandwidth is positive, or that a float mask is padding, a call reads
    a number from the device, one to five times. A GPU has to finish its work first. Under this switch nothing is read,
    as in a compiled graph: an output is then whatever torch's kernel makes of NaN or infinity, which on the CPU is zero
    for a query of NaN, and short cuts that depend on values are not taken. Shapes, dtypes and devices are checked as
    ever. What depends on values by its nature (`irreversibility`, a tolerance of `Sinkhorn`) still reads them.

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
    """True if the entries of x can be looked at, and may be: `bool(x.any())` has an answer, and depends on it alone."""
    if torch.compiler.is_compiling():
        return False
    return _VALUES_ARE_CHECKED.get() and _has_values(x)


def _has_values(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or x.device.type == "meta":
        return False
    if _is_batched(x):
        return False
    return _FAKE not in sys.modules or not isinstance(x, sys.modules[_FAKE].FakeTensor)


def _is_batched(x: Tensor) -> bool:
    """True if x stands for many tensors, as inside `vmap`; `grad` alone wraps tensors whose entries can be read."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if not functorch.is_gradtrackingtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return functorch.is_legacy_batchedtensor(x)


def in_transform() -> bool:
    """True inside a transform of torch.func (`grad`, `vmap`, `jvp`, …) or of forward-mode differentiation.

    There autograd functions of our own are not taken: everything must be made of torch's own operations.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_differentiated_again(*gradients: Tensor | None) -> bool:
    """Asked in a backward pass: will it be differentiated itself, or is it run for a batch of gradients at once?

    Then it must be made of torch's own operations. An ordinary backward pass runs with grad mode off.
    """
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or any(
        x is not None and torch._C._functorch.is_legacy_batchedtensor(x) for x in gradients
    )


def is_autocast(x: Tensor) -> bool:
    """True inside `torch.autocast` for the device of x; there is none for meta tensors."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def holds(answer: Tensor) -> bool:
    """bool(answer), or True where it cannot be looked at: what cannot be checked is taken for granted."""
    return not is_readable(answer) or bool(answer)


def require_readable(x: Tensor, what: str, instead: str) -> None:
    """Raise `InputError` where `what` must read the entries of x and cannot. A compiled graph breaks there itself."""
    if not torch.compiler.is_compiling() and not _has_values(x):
        raise InputError(
            f"{what} depends on the values of a tensor, which cannot be read for meta tensors and inside "
            f"torch.func.vmap; {instead}"
        )

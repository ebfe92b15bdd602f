"""What went wrong at the boundary: what was expected, what came, and what to try.

LimelightError
├── InputError          a shape, a value or a combination that has no meaning    (also ValueError)
├── DtypeError          a dtype that cannot be computed with                      (also TypeError)
├── DeviceError         tensors on different devices                              (also ValueError)
├── KernelError         a kernel asked for by name cannot do what was asked       (also RuntimeError)
├── UnknownNameError    a name that is not in the list, with the nearest that is  (also LookupError)
├── ConvergenceError    an iteration did not come as near as was asked            (also ArithmeticError)
├── ContractError       an extension does not keep its contract               (also AssertionError)
├── MissingExtraError   an optional dependency is not installed                   (also ImportError)
├── StoreError          a results folder that cannot be read or written           (also OSError)
└── ClusterError        no cluster answers                                        (also ConnectionError)
"""

import importlib.util
from collections.abc import Iterable
from difflib import get_close_matches


class LimelightError(Exception):
    """Every error that Limelight raises on purpose."""


class InputError(LimelightError, ValueError):
    """A shape, a value or a combination that has no meaning."""


class DtypeError(LimelightError, TypeError):
    """A dtype that cannot be computed with."""


class DeviceError(LimelightError, ValueError):
    """Tensors that should share a device and do not."""


class KernelError(LimelightError, RuntimeError):
    """A kernel asked for by name cannot do what was asked; it never falls back."""


class UnknownNameError(LimelightError, LookupError):
    """A name that is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(choices) if choices else "none"
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {listed}.")


class DivergenceError(LimelightError, ArithmeticError):
    """Training left the finite numbers: a result of the model, not a fault of the program."""


class ConvergenceError(LimelightError, ArithmeticError):
    """An iteration that did not come as near as was asked."""


class ContractError(LimelightError, AssertionError):
    """A similarity, normalization or mask of a user's own whose parts disagree; raised by `limelight.testing`."""


class MissingExtraError(LimelightError, ImportError):
    """A part of Limelight whose optional dependencies are not installed."""


def require(extra: str, who: str, *modules: str) -> None:
    """Raise `MissingExtraError` if one of these modules, which the extra brings, is not installed; none is imported."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"{who} needs {module}, which is not installed; {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """What to type to get the optional dependencies called `extra`, as errors say it."""
    return f"in a clone of Limelight, run: pip install -e '.[{extra}]'"


class StoreError(LimelightError, OSError):
    """A results folder that cannot be read or written."""


class ClusterError(LimelightError, ConnectionError):
    """A cluster that does not answer."""

"""The errors that Limelight raises. Each message says what was expected, what came, and what to try.

LimelightError
├── InputError          a shape, a value or a combination that has no meaning    (also ValueError)
├── DtypeError          a dtype that is not supported                             (also TypeError)
├── DeviceError         tensors on different devices                              (also ValueError)
├── KernelError         a kernel chosen by name cannot serve the call             (also RuntimeError)
├── UnknownNameError    an unknown name; the message has the most similar one     (also LookupError)
├── ConvergenceError    an iteration did not reach its tolerance                  (also ArithmeticError)
├── DivergenceError     a training produced numbers that are not finite           (also ArithmeticError)
├── ContractError       the parts of an extension disagree                        (also AssertionError)
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
    """A dtype that is not supported."""


class DeviceError(LimelightError, ValueError):
    """Tensors that should share a device and do not."""


class KernelError(LimelightError, RuntimeError):
    """A kernel chosen by name cannot serve the call; no other kernel is used instead."""


class UnknownNameError(LimelightError, LookupError):
    """A name that is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        listed = ", ".join(choices) if choices else "none"
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {listed}.")


class DivergenceError(LimelightError, ArithmeticError):
    """Training produced numbers that are not finite: a result of the model, not a fault of the program."""


class ConvergenceError(LimelightError, ArithmeticError):
    """An iteration that did not reach its tolerance."""


class ContractError(LimelightError, AssertionError):
    """The parts of a user's own similarity, normalization or mask disagree; raised by `limelight.testing`."""


class MissingExtraError(LimelightError, ImportError):
    """An optional dependency that this part of Limelight needs is not installed."""


def require(extra: str, who: str, *modules: str) -> None:
    """Raise `MissingExtraError` if one of these modules of an extra is not installed. None of them is imported."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(f"{who} needs {module}, which is not installed; {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """The end of an error message: the command that installs the extra."""
    return f"in a clone of Limelight, run: pip install -e '.[{extra}]'"


class StoreError(LimelightError, OSError):
    """A results folder that cannot be read or written."""


class ClusterError(LimelightError, ConnectionError):
    """A cluster that does not answer."""

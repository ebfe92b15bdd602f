"""What a class must define to be run as a claim, checked where the class comes from outside Limelight."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

from limelight.errors import InputError
from limelight.experiment.claim import Claim

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def claims_in(module: ModuleType) -> list[type[Claim]]:
    """The subclasses of `Claim` that a module defines itself."""
    return [
        value
        for value in dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
        if issubclass(value, Claim) and value.__module__ == module.__name__
    ]


def complete(kind: type[Claim], where: str) -> Claim:
    """The claim of this class. Raises `InputError` if the class, which is defined at `where`, lacks something."""
    needed = (*inspect.get_annotations(Claim), *sorted(Claim.__abstractmethods__))
    lacking = [name for name in needed if name in kind.__abstractmethods__ or not hasattr(kind, name)]
    if lacking:
        raise InputError(f"the claim {kind.__name__} in {where} lacks {', '.join(lacking)}")
    if not is_claim_name(kind.name):
        raise InputError(
            f"the name of the claim in {where}, which names its folder of results, should consist of letters, digits "
            f"and underscores, and not be 'damaged'; got {kind.name!r}"
        )
    if kind.control not in kind.arms:
        raise InputError(
            f"the control of the claim in {where} should be one of its arms, {', '.join(map(repr, kind.arms))}; "
            f"got {kind.control!r}"
        )
    try:
        return kind()
    except Exception as problem:
        raise InputError(f"{kind.__name__}() in {where} raises {described(problem)}") from None


def is_claim_name(name: object) -> bool:
    """True for a text that can name a claim and its folder of results; `damaged` is the folder of damaged files."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name != "damaged"


def described(problem: BaseException) -> str:
    """The kind of an exception and its message, if it has one."""
    message = problem.msg if isinstance(problem, SyntaxError) else problem
    return f"{type(problem).__name__}: {message}".removesuffix(": ")

"""Shapes and dtypes in the signatures of `limelight.kernels`, checked at each call while testing.

jaxtyping's own import hook checks every function, also those whose signature names no shape. It checks arguments twice,
the second time beside the result, and compiles the checks of a function that is defined inside another anew at each
call. That was half the time of the operator's tests. Here functions and methods are checked once, where a shape stands
in the signature; mypy has the rest.
"""

import importlib.abc
import importlib.machinery
import inspect
import sys

from beartype import beartype
from jaxtyping import jaxtyped

_SHAPED = ("Float[", "Bool[", "Int[", "Shaped[", "Num[", "Complex[")


def install(package):
    """Check all modules of the package that are imported after this call."""
    if package in sys.modules:
        raise RuntimeError(f"{package} was imported before its signatures could be checked")
    sys.meta_path.insert(0, _Finder(package))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name != self.package and not name.startswith(self.package + "."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Other modules import from a module after it was executed, so they get the checked functions."""

    def exec_module(self, module):
        super().exec_module(module)
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) == module.__name__:
                setattr(module, name, _class(value) if inspect.isclass(value) else checked(value))


def _class(owner):
    for name, value in list(vars(owner).items()):
        if getattr(getattr(value, "__func__", value), "__module__", owner.__module__) != owner.__module__:
            continue  # methods that every named tuple has
        better = checked(value)
        if better is not value:
            setattr(owner, name, better)
    if _names_shapes(owner) and "__init__" in vars(owner):
        return jaxtyped(owner, typechecker=beartype)  # the fields of a dataclass
    return owner


def checked(value):
    """The function, static method, class method or property, with its shapes checked if its signature has any."""
    if isinstance(value, staticmethod | classmethod):
        return type(value)(checked(value.__func__))
    if isinstance(value, property):
        return property(value.fget and checked(value.fget), value.fset, value.fdel, value.__doc__)
    if inspect.isfunction(value) and _names_shapes(value):
        if inspect.isgeneratorfunction(value):  # its body, and so beartype's check, runs amid the shapes of its caller
            return jaxtyped(value, typechecker=beartype)
        return jaxtyped(beartype(value), typechecker=None)
    return value


def _names_shapes(value):
    return any(shape in str(hint) for hint in inspect.get_annotations(value).values() for shape in _SHAPED)

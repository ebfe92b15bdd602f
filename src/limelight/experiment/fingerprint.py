"""What could change a result? The code that made it, its arm and seed, its data, and the versions beneath.

The code is that of the claim's module and of every Limelight module that it reaches by imports, read
as syntax: comments, docstrings, pictures and the judgment change no measurement, so they change no
name. (A judgment is made anew from the results each time.)
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import platform
import threading
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from limelight.experiment.claim import Claim

_PACKAGE = "limelight"
_PARSING = threading.Lock()  # Python 3.11 takes the depths of two threads for one (python/cpython#106905)
_MEASURES_NOTHING = ("limelight.experiment", "limelight.figures", "limelight.report")
_NOT_MEASUREMENT = {"judge", "figures"}


def cell_key(claim: Claim, arm: str, seed: int) -> str:
    """The SHA-256 that names the result of one cell."""
    identity = {"claim": claim.name, "arm": arm, "seed": seed, **circumstances(claim)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def circumstances(claim: Claim) -> dict[str, Any]:
    """What all cells of a claim have in common: its code, its data, and the versions beneath."""
    return {"source": source_digest(type(claim).__module__), "data": dict(claim.data()), "versions": versions()}


@cache
def versions() -> dict[str, str]:
    """What a result was computed with."""
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


@cache
def source_digest(module: str) -> str:
    """SHA-256 over the syntax of a module and of all Limelight modules that it imports, directly or not."""
    reached: dict[str, str] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached[name], imports = _read(name)
        pending += imports
    return hashlib.sha256(json.dumps(reached, sort_keys=True).encode()).hexdigest()


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """The syntax of a module that measures something, and what it imports: read once for all claims that reach it."""
    tree = _syntax(module)
    imports = tuple(found for found in _imports(tree) if not found.startswith(_MEASURES_NOTHING))
    return ast.dump(_Bare().visit(tree)), imports


def _syntax(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"cannot read the source of {module}")
    with _PARSING:
        return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    """The Limelight modules that a module names; `from limelight.data import digits` names both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in candidates:
            if name.split(".")[0] == _PACKAGE and _is_module(name):
                yield name


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent is a module, and this a name in it
        return False


class _Bare(ast.NodeTransformer):
    """The syntax without what measures nothing."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [part for part in node.body if getattr(part, "name", None) not in _NOT_MEASUREMENT]
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node

"""Finds where a name is defined: modules are parsed, and names are followed through imports; no module is run."""

from __future__ import annotations

import ast
import importlib.util
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from limelight.experiment.provenance.scopes import bound_names, import_statements

_PARSING = threading.Lock()  # Python 3.11 counts the recursion depths of two threads as one (python/cpython#106905)
IGNORED_NAMES = {"__version__", "__all__", "__doc__"}


class Definition(NamedTuple):
    """A function, a class, a constant or another name that a module defines at its top level."""

    module: str
    name: str


class Module(NamedTuple):
    """A module of the packages that are read, used as a value."""

    name: str


class External(NamedTuple):
    """A name from a module that is not read, such as `torch.Tensor`."""

    name: str


class Text(NamedTuple):
    """The text of a module, and whether the module is a package."""

    text: str
    is_package: bool


Target = Definition | Module | External
EVERYTHING = "*"  # the name that stands for all definitions of a module
Parsed = tuple[ast.Module, bool]  # the syntax tree, and True if the module is a package


class Source:
    """One parsed module: the statements that bind each of its names, and the statements that may have side effects."""

    def __init__(self, name: str, tree: ast.Module, package: bool) -> None:
        self.name, self.tree, self.package = name, tree, package
        self.bound: dict[str, list[ast.stmt]] = {}
        self.effectful: list[ast.stmt] = []
        self.stars: list[str] = []
        self._sort(tree.body)

    def _sort(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.If) and is_type_checking(statement):
                self._sort(statement.orelse)
                continue
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                self.stars.append(self.absolute(statement))
                continue
            for part in split_assignment(statement):
                names = bound_names([part])
                for name in sorted(names):
                    self.bound.setdefault(name, []).append(part)
                if _may_have_effects(part, names):
                    self.effectful.append(part)

    def absolute(self, statement: ast.ImportFrom) -> str:
        """The absolute name of the module in `from … import`."""
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - statement.level + (1 if self.package else 0)]
        return ".".join([*kept, *([statement.module] if statement.module else [])])

    @cached_property
    def imports(self) -> list[tuple[str, str | None]]:
        """All imports, with those inside functions: a module, and the name that is taken from it, or None."""
        found: list[tuple[str, str | None]] = []
        for node in import_statements(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, None) for alias in node.names]
            else:
                found += [(self.absolute(node), alias.name) for alias in node.names]
        return found


class Sources:
    """The modules of some packages, each of which is read once. Names from the modules `unread` are `External`.

    `given` has the texts of modules that are not looked for in files; their packages must be among `packages`.
    Indexing raises `ModuleNotFoundError` for a module without source, and `SyntaxError` for one that is not Python.
    """

    def __init__(
        self, packages: Iterable[str], unread: Iterable[str] = (), given: Mapping[str, Text] | None = None
    ) -> None:
        self.packages, self.unread = frozenset(packages), frozenset(unread)
        self._given = dict(given or {})
        self._given_packages = {top_of(module) for module in self._given}
        self._texts: dict[str, Text | None] = {}
        self._read: dict[str, Source | None] = {}
        self._stubs: dict[str, Source | None] = {}
        self._imported_by: dict[str, frozenset[str]] = {}
        self._lookups: dict[tuple[str, str], Target | None] = {}

    def __getitem__(self, module: str) -> Source:
        source = self._source(module)
        if source is None:
            raise ModuleNotFoundError(f"cannot read the source of {module}")
        return source

    def __contains__(self, module: str) -> bool:
        return self._text(module) is not None

    def all_modules(self) -> Iterator[str]:
        """The names of all modules of these packages, package by package, in alphabetical order."""
        for package in sorted(self.packages):
            found = [package, *(module for module in self._given if top_of(module) == package)]
            for place in [] if package in self._given_packages else _package_folders(package):
                for file in place.rglob("*.py"):
                    parts = file.relative_to(place).with_suffix("").parts
                    found.append(".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]))
            yield from (name for name in sorted(set(found)) if name in self)

    def imported_by(self, module: str) -> frozenset[str]:
        """The modules of these packages that are run by the imports of a module and of its functions."""
        if module not in self._imported_by:
            self._imported_by[module] = frozenset(self._run_by(module))
        return self._imported_by[module]

    def _run_by(self, module: str) -> Iterator[str]:
        for name, taken in self[module].imports:
            if top_of(name) not in self.packages:
                continue
            parts = name.split(".")
            found = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
            if taken is not None:
                target = self.imported(name, taken)
                found |= {target.module} if isinstance(target, Definition) else set()
                found |= {target.name} if isinstance(target, Module) else set()
            yield from (one for one in found if one in self)

    def imported(self, module: str, name: str | None) -> Target:
        """What an import statement binds: the module, or, if a name is given, that name of the module."""
        if top_of(module) not in self.packages:
            return External(f"{module}.{name}" if name else module)
        if name is None:
            return Module(module)
        # A name that cannot be found may be computed in some way, so it stands for the whole module.
        return self.find(module, name) or Definition(module, EVERYTHING)

    def lookup(self, module: str, name: str) -> Target | None:
        """What a name means in the code of a module; None if the module does not bind it."""
        if (module, name) not in self._lookups:
            source = self[module]
            places = [module] if name in source.bound else source.stars
            found = (self.find(place, name) for place in places)
            self._lookups[module, name] = next((target for target in found if target is not None), None)
        return self._lookups[module, name]

    def stub(self, module: str) -> Source | None:
        """The stub file of a module that has `__getattr__`, as a package has that loads its names lazily; else None."""
        source = self[module]
        if "__getattr__" not in source.bound:
            return None
        if module not in self._stubs:
            parsed = self.parse(module, stub=True)
            self._stubs[module] = None if parsed is None else Source(module, *parsed)
        return self._stubs[module]

    def find(self, module: str, name: str) -> Target | None:
        """The definition that a name of a module leads to through imports; None if the module has no such name."""
        return self._find(module, name, frozenset())

    def _find(self, module: str, name: str, seen: frozenset[tuple[str, str]]) -> Target | None:
        if module in self.unread or name in IGNORED_NAMES:
            return External(name)
        source = self._source(module)
        if source is None or (module, name) in seen:
            return None
        seen |= {(module, name)}
        if name in source.bound:
            return self._bound(source, name, seen)
        stub = self.stub(module)
        if stub is not None and name in stub.bound:
            exported = self._bound(stub, name, seen)
            return exported if exported != Definition(module, name) else Definition(module, EVERYTHING)
        if f"{module}.{name}" in self:
            return Module(f"{module}.{name}")
        for star in source.stars:
            found = self._find(star, name, seen)
            if found is not None:
                return found
        return Definition(module, EVERYTHING) if "__getattr__" in source.bound else None

    def _bound(self, source: Source, name: str, seen: frozenset[tuple[str, str]]) -> Target:
        first, *others = source.bound[name]
        if others or not isinstance(first, ast.Import | ast.ImportFrom):
            return Definition(source.name, name)
        module, taken = imported_as(source, first, name)
        if taken is None or top_of(module) not in self.packages:
            return self.imported(module, taken)
        return self._find(module, taken, seen) or self._submodule(module, taken) or Definition(module, EVERYTHING)

    def _submodule(self, module: str, name: str) -> Module | None:
        return Module(f"{module}.{name}") if f"{module}.{name}" in self else None

    def _source(self, module: str) -> Source | None:
        if module not in self._read:
            parsed = self.parse(module) if module in self else None
            self._read[module] = None if parsed is None else Source(module, *parsed)
        return self._read[module]

    def _text(self, module: str) -> Text | None:
        if module not in self._texts:
            self._texts[module] = self.text(module) if top_of(module) in self.packages else None
        return self._texts[module]

    def parse(self, module: str, stub: bool = False) -> Parsed | None:
        """The syntax of a module, or None where there is none."""
        found = self.text(module, stub) if stub else self._text(module)
        if found is None:
            return None
        with _PARSING:
            return ast.parse(found[0]), found[1]

    def text(self, module: str, stub: bool = False) -> Text | None:
        """The text of a module, or of the stub beside it; None where there is none."""
        if top_of(module) in self._given_packages:
            return None if stub else self._given.get(module)
        file = _file(module)
        if file is not None and stub:
            file = file.with_suffix(".pyi")
        if file is None or not file.is_file():
            return None
        return Text(file.read_text(encoding="utf-8"), file.stem == "__init__")


def top_of(module: str) -> str:
    """The package, or the single module, to which a module belongs."""
    return module.partition(".")[0]


def is_installed(package: str) -> bool:
    """True for the standard library, and for a package that pip has copied to where packages are installed.

    False for a module in a folder of one's own, also if it is installed there with `pip install -e`.
    """
    if package in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(package) if package else None
    except ValueError:  # for a module without a file that some package has made, and for `__main__`
        return True
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return all({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places if place)


def imported_modules(name: str, text: Text) -> list[str]:
    """All modules that the imports of a text may run: packages, their modules, and names that may be modules.

    >>> from limelight.experiment.provenance.sources import Text, imported_modules
    >>> imported_modules('a', Text('from b.c import d', is_package=False))
    ['b', 'b.c', 'b.c.d']
    """
    with _PARSING:
        tree = ast.parse(text.text)
    found: list[str] = []
    for module, taken in Source(name, tree, text.is_package).imports:
        parts = [*filter(None, module.split(".")), *([taken] if taken else [])]
        found += [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return found


def _file(module: str) -> Path | None:
    """The file of a module. Its packages are found without being run, since running them would import torch."""
    package, *below = module.split(".")
    if not below:
        spec = importlib.util.find_spec(package)
        return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
    for place in _package_folders(package):
        stem = place.joinpath(*below)
        for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if file.is_file():
                return file
    return None


def _package_folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def imported_as(source: Source, statement: ast.Import | ast.ImportFrom, name: str) -> tuple[str, str | None]:
    """The module from which an import statement binds a name, and the name that it takes from the module, or None."""
    for alias in statement.names:
        if (alias.asname or alias.name.partition(".")[0]) == name:
            if isinstance(statement, ast.ImportFrom):
                return source.absolute(statement), alias.name
            return (alias.name if alias.asname else name), None
    raise KeyError(name)


def is_type_checking(statement: ast.If) -> bool:
    """True for `if TYPE_CHECKING:`, whose body never runs."""
    test = statement.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def split_assignment(statement: ast.stmt) -> list[ast.stmt]:
    """Split `a, b = 1, 2` into two statements, so that code that uses one name does not depend on the other."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return [statement]
    target, value = statement.targets[0], statement.value
    if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple) or len(target.elts) != len(value.elts):
        return [statement]
    if not all(isinstance(part, ast.Name) for part in target.elts):
        return [statement]
    if any(isinstance(part, ast.Starred) for part in value.elts):
        return [statement]
    return [
        ast.copy_location(ast.Assign([left], right), statement)
        for left, right in zip(target.elts, value.elts, strict=True)
    ]


def _may_have_effects(statement: ast.stmt, names: set[str]) -> bool:
    """True if running the statement could change objects of other names. Plain definitions and imports cannot."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return False
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return bool(statement.decorator_list)
    if isinstance(statement, ast.ClassDef):
        return bool(statement.decorator_list or statement.bases or statement.keywords)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return False
    if isinstance(statement, ast.Assign | ast.AnnAssign) and names:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        plain = all(isinstance(target, ast.Name | ast.Tuple | ast.List) for target in targets)
        return not plain or any(isinstance(node, ast.Call) for node in ast.walk(statement))
    return not _runs_as_script(statement)


def _runs_as_script(statement: ast.stmt) -> bool:
    """True for `if __name__ == "__main__":`, which does not run in a trial."""
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and isinstance(statement.test.left, ast.Name)
        and statement.test.left.id == "__name__"
    )

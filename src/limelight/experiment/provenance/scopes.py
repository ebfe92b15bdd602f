"""The names that a piece of code binds itself. Its other names are those of its module, or built in."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_BINDERS = (
    ast.Import, ast.ImportFrom, ast.Global, ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
    ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp,
)  # fmt: skip
_HOLD_STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass
class Bindings:
    """The names that a body binds, the names that it declares `global`, and its import statements."""

    names: set[str]
    globals: set[str] = field(default_factory=set)
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    others: set[str] = field(default_factory=set)  # names that are bound by something other than an import


def bindings(node: Function) -> Bindings:
    """The names that a function binds: its parameters, and the names that its body binds.

    >>> import ast
    >>> from limelight.experiment.provenance.scopes import bindings
    >>> function = ast.parse('def f(a, *b):\\n    global c\\n    c = d = [e for e in a]').body[0]
    >>> sorted(bindings(function).names)
    ['a', 'b', 'd']
    """
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    found = _bindings([node.body] if isinstance(node, ast.Lambda) else node.body)
    found.others |= {argument.arg for argument in every if argument is not None}
    found.names = (found.names | found.others) - found.globals
    return found


def bound_names(body: Iterable[ast.AST]) -> set[str]:
    """The names that statements bind in their own scope.

    >>> import ast
    >>> from limelight.experiment.provenance.scopes import bound_names
    >>> sorted(bound_names(ast.parse('import a.b as c; d, e = [f for f in g]; x[0] = 1').body))
    ['c', 'd', 'e']
    """
    return _bindings(body).names


def imported_names(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """The names that an import statement binds."""
    return [alias.asname or alias.name.partition(".")[0] for alias in statement.names if alias.name != "*"]


def import_statements(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements of a module, with those inside its functions."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        for part in _HOLD_STATEMENTS:
            pending += getattr(node, part, ())


def _bindings(body: Iterable[ast.AST]) -> Bindings:
    found = Bindings(set())
    others = found.others
    pending = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                others.add(node.id)
        elif isinstance(node, _BINDERS):
            pending += _bind(node, found)
        else:
            pending += _parts(node)
    found.names = others.union(*map(imported_names, found.imports))
    return found


def _bind(node: ast.AST, found: Bindings) -> list[ast.AST]:
    """Add the names that this node binds to `found`, and return the parts of the node that may bind further names."""
    match node:
        case ast.Import() | ast.ImportFrom():
            found.imports.append(node)
        case ast.Global():
            found.globals.update(node.names)
        case ast.Lambda():
            return [*_defaults(node.args)]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            found.others.add(node.name)
            return [*node.decorator_list, *_defaults(node.args)]
        case ast.ClassDef():
            found.others.add(node.name)
            return [*node.decorator_list, *node.bases, *node.keywords]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            found.others.add(name)
            return _parts(node)
        case ast.MatchMapping(rest=str(name)):
            found.others.add(name)
            return _parts(node)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            found.others |= _walruses(node)
        case _:
            return _parts(node)
    return []


def _parts(node: ast.AST) -> list[ast.AST]:
    """The child nodes of a node, as from `ast.iter_child_nodes`, in half the time."""
    found: list[ast.AST] = []
    for value in vars(node).values():
        if isinstance(value, ast.AST):
            found.append(value)
        elif isinstance(value, list):
            found += [part for part in value if isinstance(part, ast.AST)]
    return found


def _walruses(node: ast.AST) -> set[str]:
    """The names that `:=` inside a comprehension binds in the scope around it."""
    return {
        part.target.id
        for part in ast.walk(node)
        if isinstance(part, ast.NamedExpr) and isinstance(part.target, ast.Name)
    }


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    """The default values of a function's parameters, which are evaluated in the scope around the function."""
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]

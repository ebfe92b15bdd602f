"""Which names does a piece of code bind itself? The others are those of its module."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def bound_names(body: Iterable[ast.AST]) -> set[str]:
    """The names that statements bind in the scope that they stand in.

    >>> import ast
    >>> from limelight.experiment.scopes import bound_names
    >>> sorted(bound_names(ast.parse('import a.b as c; d, e = [f for f in g]; x[0] = 1').body))
    ['c', 'd', 'e']
    """
    found: set[str] = set()
    for node in body:
        found |= _bound(node)
    return found


def declared_global(body: Iterable[ast.AST]) -> set[str]:
    """The names that statements declare `global`, not counting functions and classes within them."""
    return {name for node in own_nodes(body) if isinstance(node, ast.Global) for name in node.names}


def function_names(node: Function) -> set[str]:
    """The parameters of a function and the names that its body binds."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    parameters = {argument.arg for argument in every if argument is not None}
    if isinstance(node, ast.Lambda):
        return parameters | bound_names([node.body])
    return (parameters | bound_names(node.body)) - declared_global(node.body)


def own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """These nodes and what is within them, but not within functions and classes."""
    pending = list(body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _INNER):
            pending += ast.iter_child_nodes(node)


def _bound(node: ast.AST) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name} | bound_names([*node.decorator_list, *_defaults(node)])
        case ast.Lambda():
            return set()
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return {
                walrus.target.id
                for walrus in own_nodes(ast.iter_child_nodes(node))
                if isinstance(walrus, ast.NamedExpr) and isinstance(walrus.target, ast.Name)
            }
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return {name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.partition(".")[0] for alias in node.names if alias.name != "*"}
    found = bound_names(ast.iter_child_nodes(node))
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        found.add(node.name)
    if isinstance(node, ast.MatchMapping) and node.rest:
        found.add(node.rest)
    return found


def _defaults(node: ast.AST) -> list[ast.AST]:
    """What a definition evaluates where it stands: defaults, and bases."""
    if isinstance(node, ast.ClassDef):
        return [*node.bases, *node.keywords]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]

"""Modules depend on each other in one direction: no import cycle, also not by imports within functions."""

import ast
from pathlib import Path

import limelight

ROOT = Path(limelight.__file__).parent.parent


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "limelight").rglob("*.py"))}


def is_for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(path):
    """The modules of Limelight that a module imports, at its top or within a function; not those for annotations."""
    pending, found = [ast.parse(path.read_text(encoding="utf-8"))], set()
    while pending:
        node = pending.pop()
        if is_for_types_only(node):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
        pending += ast.iter_child_nodes(node)
    return {name for name in found if name in MODULES}


GRAPH = {name: imports_of(path) - {name} for name, path in MODULES.items()}


def cycle_in(graph):
    """A cycle of the graph, or None (Tarjan's depth-first search, with the path instead of numbers)."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for following in sorted(graph[name]):
            found = visit(following)
            if found:
                return found
        done.add(path.pop())
        return None

    return next(filter(None, map(visit, graph)), None)


def test_a_cycle_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_no_module_imports_one_that_imports_it():
    assert cycle_in(GRAPH) is None

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


LAYERS = {
    "core": {"kernels", "edge_weights", "similarity", "mask", "normalization", "attention", "weights", "functional",
             "propagation", "measures", "heads_operator", "key_cache", "kept_keys", "growing",
             "linear_operator", "check", "errors", "heads",
             "kept", "nonfinite", "plain", "shapes", "tracing", "twice", "signed", "differential",
             "local_linear"},
    "layers": {"nn", "distributed", "huggingface", "testing", "classical", "continuum", "models", "interpret",
               "microscope", "data"},
    "results": {"experiment", "report", "claims", "what_if"},
    "figures": {"figures"},
    "programs": {"lab", "cli", "__main__"},
}  # fmt: skip
MAY_IMPORT = {
    "core": {"core"},
    "layers": {"layers", "core"},
    "figures": {"figures"},  # turns numbers into pictures, and imports nothing else
    "results": {"results", "layers", "core", "figures"},
    "programs": {*LAYERS},
}


def test_the_picture_of_the_packages_shows_these_layers():
    drawing = Path(__file__).parent.parent / "docs" / "packages.py"
    rows = next(
        ast.literal_eval(node.value) for node in ast.parse(drawing.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROWS"
    )  # fmt: skip
    names = LAYERS | {"operator": LAYERS["core"], "results": LAYERS["results"] | LAYERS["figures"]}
    assert all({*drawn} <= names[row] for row, drawn in rows)


def layer_of(module):
    name = module.split(".")[1] if "." in module else ""
    return next((layer for layer, names in LAYERS.items() if name in names), None)


def test_every_module_has_a_layer():
    assert {name for name in MODULES if layer_of(name) is None} == {"limelight"}


def test_layers_import_in_one_direction():
    wrong = [
        (name, imported) for name, imports in GRAPH.items() for imported in imports
        if name != "limelight" and imported not in ("limelight", "limelight.errors")
        and layer_of(imported) not in MAY_IMPORT[layer_of(name)]
    ]  # fmt: skip
    assert wrong == []

"""docs/private.md has every private name of another package that is used in this repository, and no others.

A name is private if it begins with an underscore, if it is reached through a module that is (`torch._C._nn.gelu`,
`from torch._subclasses import FakeTensor`), or if it is listed in `UNDOCUMENTED`; and if nothing in this
repository defines it.
"""

import ast
import contextlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "limelight"
PAGE = (ROOT / "docs" / "private.md").read_text(encoding="utf-8")
FOLDERS = ("src/limelight", "tests", "benchmarks", "docs", "examples", "tools")
FILES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")
    if path.suffix in (".py", ".js", ".css", ".j2") and path != Path(__file__)
)  # fmt: skip
# Names that are private although they have no underscore, and private ones that Limelight defines, too.
UNDOCUMENTED = {
    "ALL_ATTENTION_FUNCTIONS", "eager_attention_forward", "sdpa_mask", "output_capturing", "externals",
    "_reset_parameters", "_qkv_same_embed_dim", "callback_map", "component_id_str",
}  # fmt: skip
IN_SCRIPTS = {
    ".js": r"(?<=\.)_[a-z]\w+|\b(?:calcdata|glplot|p2d|d2p|refineData|dataScale[XY]|dirty)\b",
    ".css": r"(?<=\.)_?dash-[\w-]+|(?<=\.)js-plotly[\w-]*",
    ".j2": r"(?<=\.)_[a-z]\w+",
}


Nodes = list[ast.AST]
MATTER = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Name, ast.arg, ast.Attribute, ast.Subscript, ast.Call,
    ast.Constant, ast.Import, ast.ImportFrom, ast.Assign,
)  # fmt: skip


def parsed(text: str) -> Nodes:
    """The syntax nodes of the code, and of programs in its strings, which run in other processes."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, MATTER)]
    for node in list(nodes):
        match node:
            case ast.Constant(value=str(program)) if re.search(r"^(import|from) .*\n", program, re.M):
                with contextlib.suppress(SyntaxError):
                    nodes += parsed(program)
    return nodes


def private(name: str) -> bool:
    return re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def defined(nodes: Nodes) -> set[str]:
    """Every name that the code defines, takes as an argument, or assigns to something of its own."""
    found = set()
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.Subscript(value=ast.Attribute(attr="__dict__"), slice=ast.Constant(value=str(name))):
                found.add(name)
            case ast.Call(func=ast.Attribute(attr="update"), keywords=keywords):  # of a `__dict__`
                found.update(each.arg for each in keywords if each.arg)
    return found


def mentioned(nodes: Nodes) -> set[str]:
    """Every name that the code uses: of attributes, in imports, and in strings that are nothing but a name."""
    found = set()
    for node in nodes:
        match node:
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+", text):
                found.update(text.split("."))
            case ast.Import(names=names):
                found.update(part for each in names for part in each.name.split("."))
            case ast.ImportFrom(module=str(module), names=names) if not module.startswith(("limelight", "tests")):
                found.update(module.split("."), (each.name for each in names))
    return found


def inside(nodes: Nodes) -> set[str]:
    """Every name, whatever it looks like, that the code takes from a private module or from a part of one."""
    found = set()
    modules = imported(nodes)
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute() as value) if path(value, modules):
                modules[name] = path(value, modules)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))) if "." in text:
                modules[name] = text
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                found.update(each.name for each in names if is_private_module(f"{module}.{each.name}"))
            case ast.Attribute(value=value, attr=name) if is_private_module(path(value, modules)):
                found.add(name)
    return {name for name in found if not name.startswith("__")}


def imported(nodes: Nodes) -> dict[str, str]:
    """The names that are imported, with the dotted path that each stands for."""
    found = {}
    for node in nodes:
        match node:
            case ast.Import(names=names):
                found.update(
                    (each.asname, each.name) if each.asname else (each.name.partition(".")[0],) * 2 for each in names
                )
            case ast.ImportFrom(module=str(module), names=names):
                found.update((each.asname or each.name, f"{module}.{each.name}") for each in names)
    return found


def path(node: ast.AST, modules: dict[str, str]) -> str:
    """The dotted path of `a.b.c` if `a` stands for one, and of `sys.modules[a]`; "" otherwise."""
    match node:
        case ast.Name(id=name):
            return modules.get(name, "")
        case ast.Attribute(value=value, attr=name) if above := path(value, modules):
            return f"{above}.{name}"
        case ast.Subscript(value=ast.Attribute(attr="modules"), slice=ast.Name(id=name)):
            return modules.get(name, "")
        case ast.Subscript(value=ast.Attribute(attr="modules"), slice=ast.Constant(value=str(name))):
            return name
    return ""


def is_private_module(dotted: str) -> bool:
    """True if it belongs to another package, and is private or in something private."""
    first, *rest = dotted.split(".")
    return first not in ("limelight", "tests", "benchmarks") and any(map(private, rest))


def foreign(nodes: Nodes, ours: set[str]) -> set[str]:
    """Private names of other packages."""
    found = mentioned(nodes)
    return {name for name in found if private(name)} - ours | found & UNDOCUMENTED | inside(nodes)


def told(path: Path) -> set[str]:
    """The names in the rows of the page that name this file, and the parts of dotted ones."""
    shorts = {path.relative_to(SOURCE if SOURCE in path.parents else ROOT).as_posix()}
    rows = [row.split("|") for row in PAGE.splitlines() if row.startswith("| `")]
    names = {name for row in rows if shorts & code(row[2]) for name in code(row[1])}
    return names | {part for name in names for part in name.split(".")}


def code(cell: str) -> set[str]:
    return set(re.findall("`([^`]+)`", cell))


@pytest.fixture(scope="module")
def uses() -> dict[Path, set[str]]:
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    codes = {path: parsed(text) for path, text in texts.items() if path.suffix == ".py"}
    ours = set().union(*map(defined, codes.values()))
    scripts = {
        path: set(re.findall(IN_SCRIPTS[path.suffix], text)) for path, text in texts.items() if path not in codes
    }
    return {path: foreign(nodes, ours) for path, nodes in codes.items()} | scripts


def test_every_private_name_is_on_the_page(uses):
    missing = {str(path.relative_to(ROOT)): names - told(path) for path, names in uses.items() if names - told(path)}
    assert not missing, f"docs/private.md does not say what happens when these move: {missing}"


def test_every_row_has_names_that_its_files_use(uses):
    for row in PAGE.splitlines():
        if not row.startswith("| `"):
            continue
        names, files = map(code, row.split("|")[1:3])
        found = set().union(*(uses.get(SOURCE / file, uses.get(ROOT / file, set())) for file in files))
        unused = {name for name in names if not {*name.split(".")} & found}
        assert files, row
        assert not unused, f"{unused} of docs/private.md are not used in {files}"


def test_a_new_private_name_would_be_found():
    text = '''
import sys, torch, a._module
from limelight._own import _mine
from torch import nn
from torch.nn import _reduction
from torch._later.on import Soon
from x.y import _z
x = torch.nn._secret(getattr(torch, "_hidden"), torch.relu._x, "torch._late", torch.__version__, _mine.ours, key=_z.w)
part = torch._C._part
y = part.taken(nn.public, sys.modules["torch._there"].Thing.way, part.__name__)
PROGRAM = """
import torch
torch._told.later()
"""
'''
    private = {
        "_module",
        "_reduction",
        "_later",
        "Soon",
        "_secret",
        "_hidden",
        "_late",
        "_z",
        "w",
        "_C",
        "_part",
        "taken",
    }
    private |= {"_there", "Thing", "way", "_told", "later"}
    assert foreign(parsed(text), {"_x", "_mine"}) == private

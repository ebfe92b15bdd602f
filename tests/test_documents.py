"""The code in the documents runs: each block, expression and command line, as printed and without a warning."""

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import limelight
from limelight import cli
from limelight.classical import LogDistance
from limelight.classical.affinities import Tempered
from limelight.experiment import catalog

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}


def fenced(language):
    return [
        pytest.param(code, id=f"{name}-{i}")
        for name, text in TEXTS.items()
        for i, code in enumerate(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL))
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_no_conflict_of_a_merge_is_left(name):
    assert not re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", TEXTS[name], re.MULTILINE)


PYTHON = [block for block in fenced("python") if not block.id.startswith("docs/tutorials/")]


@pytest.mark.parametrize("code", PYTHON)
def test_a_block_runs(code):
    exec(compile(code, "<document>", "exec"), {})


def test_every_block_is_of_a_kind_that_is_tested():
    for name, text in TEXTS.items():
        kinds = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
        assert set(kinds) <= {"python", "sh", ""}, name  # without a language: a tree of folders


def test_the_pages_of_the_axes_import_every_name_that_they_document():
    for axis in ("mask", "normalization", "similarity"):
        page = TEXTS[f"docs/api/{axis}.md"]
        imported = {
            name.name for node in ast.walk(ast.parse(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]))
            if isinstance(node, ast.ImportFrom) for name in node.names
        }  # fmt: skip
        assert imported == set(re.findall(r"^ +- (\w+)$", page, re.MULTILINE)), axis


# Expressions between backticks in running text.


def expressions():
    """(page, code) of each piece of code in running text that is Python and calls or computes something."""
    for name, text in TEXTS.items():
        for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            code = code.replace("\\|", "|")
            try:
                tree = ast.parse(code, mode="eval").body
            except SyntaxError:
                continue
            acts = (ast.Call, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript)
            if any(isinstance(node, acts) for node in ast.walk(tree)) and not NO_EXPRESSION.fullmatch(code):
                yield name, code


# Options, paths and names with hyphens, which only look like differences and quotients.
NO_EXPRESSION = re.compile(r"-[\w-]+|\w+( --?[\w-]+)+|[\w.-]+(/[\w.-]+)+/?|[\w.]+(-[\w.]+)+|[\d.]+")


@pytest.fixture(scope="module")
def names():
    """The names that an expression in the documents may use."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 6, 2).unbind()
    edges, n = torch.tensor([[0, 1, 2], [1, 2, 0]]), 6
    A = limelight.Attention(q, k)
    relative = limelight.RelativeBias(2, 1)
    layer = torch.nn.MultiheadAttention(2, 1, batch_first=True)
    with limelight.microscope.attach(layer) as scope:
        layer(*3 * [q[None]])
    found = {name: getattr(limelight, name) for name in limelight.__all__}
    return found | {
        "q": q, "k": k, "v": v, "query": q, "key": q, "A": A, "n": n, "nodes": n, "edges": edges, "offset": 2, "h": 2.0,
        "φ": torch.tanh, "phi": torch.tanh, "alpha": 0.5, "temperature": 2.0, "steps": 3, "tolerance": 1e-6,
        "heads": 2, "LogDistance": LogDistance, "Tempered": Tempered, "torch": torch,
        "first": A, "second": A, "share": 0.2,
        "log_gates": -torch.ones(6), "mean_position": A.mean_position, "mean_distance": A.mean_distance,
        **{name: getattr(limelight.microscope, name) for name in CHANGES}, "inputs": q[None],
        "scope": scope, "P": scope[0, 0], "layer": 0, "head": 0, "rows": slice(0, 2),
        "block": relative.block, "parts": relative.parts(q, k), "i": torch.arange(6), "j": torch.arange(6),
    }  # fmt: skip


CHANGES = (
    "Ablate", "WithoutSinks", "EqualKeyNorms", "Temperature", "Renormalize", "Replace", "ablation_effect"
)  # fmt: skip
EXPRESSIONS = sorted(set(expressions()))


@pytest.mark.parametrize(
    ("page", "code"),
    [
        pytest.param(*case, id=": ".join(case), marks=[pytest.mark.slow] if "register(" in case[1] else [])
        for case in EXPRESSIONS
    ],
)
def test_an_expression_runs(page, code, names):
    if "register(" in code:
        pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[huggingface]'")
        from limelight.huggingface import register

        names = names | {"register": register}
    counted = {"k": 2} if "topk(k)" in code else {}
    value = eval(code, names | counted | {"topk": names["A"].topk})
    if isinstance(value, limelight.Attention):
        with torch.no_grad():
            assert torch.isfinite(value @ torch.ones(value.shape[1], 1)).all()


def test_expressions_are_found():
    found = {code for _, code in EXPRESSIONS}
    assert {"A.entropy()", "Graph(edges, nodes)", "Sinkhorn(steps, tolerance)"} <= found
    assert sum(page == "docs/methods.md" for page, _ in EXPRESSIONS) >= 10


@pytest.mark.parametrize(
    "name",
    sorted({name for text in TEXTS.values() for name in re.findall(r"`(limelight(?:\.[A-Za-z_]\w*)+)`", text)}),
)
def test_a_dotted_name_exists(name):
    __import__("limelight.lab.app" if ".lab" in name else "limelight")
    parts, found = name.split("."), sys.modules["limelight"]
    for i, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = __import__(".".join(parts[:i]), fromlist=[part])


# Command lines.


def lines():
    """Each command line: those of the blocks of shell, and those between backticks in running text."""
    for name, text in TEXTS.items():
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        inline = re.findall(
            r"`((?:limelight|make|pip|python) [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        for line in [*"".join(blocks).splitlines(), *inline]:
            words = shlex.split(line.split(" > ")[0], comments=True)
            if words:
                yield name, words


LINES = [pytest.param(words, id=f"{name}: {' '.join(words)}") for name, words in lines()]
STAND_INS = {
    "CLAIM": "slopes",
    "HOST": "127.0.0.1",
    "host": "127.0.0.1",
    "$address": "tcp://127.0.0.1:8786",
}  # placeholders that a reader replaces
OTHERS = {
    "dask",
    "ray",
    "jupyter",
    "marimo",
    "git",
    "source",
    "cd",
    "pre-commit",
    "srun",
    "sleep",
}  # programs that are not Limelight's


@pytest.mark.parametrize("words", LINES)
def test_a_command_line_is_valid(words):
    program, *arguments = words
    if re.fullmatch(r"\w+=.*", program):  # a variable of the shell
        return
    if program == "limelight":
        limelight_line(
            [re.sub(r"(?<!-)\b(CLAIM|HOST|host)\b|\$address", lambda found: STAND_INS[found[0]], a) for a in arguments]
        )
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "pip":
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
            for each in extra.split(","):
                assert re.search(rf"^{each} = \[", project, re.MULTILINE), each
    elif program == "python":
        file = arguments[1].replace(".", "/") if arguments[0] == "-m" else arguments[0]
        assert any((ROOT / place).exists() for place in (file, f"{file}.py")) or file == "pytest", words
    else:
        assert program in OTHERS, words
        for file in (word for word in arguments if word.startswith("examples/")):
            assert (ROOT / file).exists()


def limelight_line(arguments):
    """Parse the line as the program does, and look up the claims and arms that it names."""
    program = get_command(cli.app)
    if arguments[0].startswith("-"):
        assert arguments[0] in {name for parameter in program.params for name in parameter.opts} | {"--help", "-h"}
        return
    command = program.commands[arguments[0]]
    given = command.make_context(arguments[0], list(arguments[1:])).params
    if command.name == "new-claim":
        return
    wanted = given.get("names") or ([given["name"]] if given.get("name") else [])
    claims = catalog.claims([name for name in wanted if not name.endswith(".py")])
    for arm in given.get("arm") or ():
        assert any(arm in claim.arms for claim in claims), arm
    if "backend" in given:
        cli.runner.check_workers(given["backend"], given["workers"], given["address"])


def is_quick(words):
    """A line that runs in seconds; searches, replications and thirty seeds take minutes, and the lab never ends.

    `inspect` needs a trained model, which may be missing.

    Lines about a file of one's own run in the tutorial that writes the file (`tests/docs/test_tutorials.py`).
    """
    others = ("lab", "new-claim", "replicate", "inspect", "tune")
    if words[0] != "limelight" or any(word.endswith(".py") for word in words) or words[1] in others:
        return False
    return not {"--full", "--backend", "--address"} & set(words)


@pytest.mark.slow
def test_the_quick_command_lines_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = {tuple(words) for _, words in lines() if is_quick(words) and words[1:] != ["run"]}
    found = sorted(told, key=lambda words: (words[1] != "run", words))  # `run` first, since the others show its results
    assert len(found) >= 6
    for _, *arguments in found:
        arguments = [argument.replace("CLAIM", "slopes").replace("/shared/", "") for argument in arguments]
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 0, (arguments, done.output)


def test_the_readme_shows_about_ten_lines_and_its_files_exist():
    readme = TEXTS["README.md"]
    first = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 12
    for name in re.findall(r'(?:\]\(|srcset="|src=")([^)"#:]+)[)"]', readme):
        assert (ROOT / name).exists(), name

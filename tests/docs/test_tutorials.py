"""The blocks of a tutorial run in order in one namespace, as printed and without a warning; and so do the notebooks.

A block that begins with a file's name, such as `# long_keys.py`, is written to that file. Where a page has such a
block, its command lines are run, too.
"""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limelight import cli
from tests.experiment.claim_files import forgetting

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NOTEBOOK, MARIMO = (ROOT / "examples" / name for name in ("attention.ipynb", "attention_marimo.py"))
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


def run(text, name):
    """Execute the Python of a page; lines of a traceback are lines of the page."""
    names = {"__name__": "tutorial"}
    found = list(BLOCK.finditer(text))
    has_files = any(FILE.match(block[2]) for block in found)
    for block in found:
        above = "\n" * text.count("\n", 0, block.start(2))
        if block[1] == "sh":
            for line in block[2].splitlines() if has_files else ():
                command(shlex.split(line, comments=True))
        elif file := FILE.match(block[2]):
            Path(file[1]).write_text(block[2], encoding="utf-8")
        else:
            exec(compile(above + block[2], name, "exec"), names)
    return sum(block[1] == "python" for block in found)


def command(words):
    assert words[0] == "limelight"
    done = CliRunner().invoke(cli.app, words[1:])
    assert done.exit_code == 0, (words, done.output)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in TUTORIALS if page.stem != "index"])
def test_a_tutorial_runs(page, tmp_path, monkeypatch):
    if page.stem in ("huggingface", "microscope"):
        pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[huggingface]'")
    monkeypatch.chdir(tmp_path)
    with forgetting(monkeypatch):
        assert run(page.read_text(encoding="utf-8"), str(page)) >= 4


def test_every_tutorial_is_listed():
    listed = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    for page in TUTORIALS:
        assert page.stem == "index" or f"({page.name})" in listed


def test_the_notebook_runs_from_top_to_bottom():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names = {"__name__": "notebook"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    for cell in code:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)


def test_the_notebook_holds_no_outputs():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_marimo_app_parses():
    names = {node.name for node in ast.parse(MARIMO.read_text(encoding="utf-8")).body if hasattr(node, "name")}
    assert names == {"_"}  # cells alone


def test_the_marimo_app_runs():
    pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[docs]'")
    names = {"__name__": "notebook", "__file__": str(MARIMO)}
    exec(compile(MARIMO.read_text(encoding="utf-8"), str(MARIMO), "exec"), names)
    _, found = names["app"].run()
    assert found["A"].shape == (24, 24)

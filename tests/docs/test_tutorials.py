"""The blocks of a tutorial run in order in one namespace, as printed and without a warning; and so do the notebooks."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NOTEBOOK, MARIMO = (ROOT / "examples" / name for name in ("attention.ipynb", "attention_marimo.py"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run(text, name):
    """Execute the Python of a page; lines of a traceback are lines of the page."""
    names = {"__name__": "tutorial"}
    found = list(BLOCK.finditer(text))
    for block in found:
        above = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(above + block[1], name, "exec"), names)
    return len(found)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in TUTORIALS if page.stem != "index"])
def test_a_tutorial_runs(page):
    if page.stem == "huggingface":
        pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[huggingface]'")
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

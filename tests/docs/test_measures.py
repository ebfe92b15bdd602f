"""The table of measures in docs/api/microscope.md is that of the measures themselves."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_measures():
    spec = importlib.util.spec_from_file_location("measures_page", ROOT / "docs" / "measures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text(encoding="utf-8")
    assert text == module.page(text), "run `python docs/measures.py`"
    assert text.count("\n| `") == 28

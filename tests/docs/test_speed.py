"""The page on speed has the results of the stored run."""

import importlib.util
import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_ordinary_use_comes_from_the_stored_run():
    spec = importlib.util.spec_from_file_location("speed", DOCS / "speed.py")
    speed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(speed)
    text, results = speed.PAGE.read_text(encoding="utf-8"), json.loads(speed.KEPT.read_text(encoding="utf-8"))
    assert speed.page(text, results) == text
    results["rows"][0]["ratio"]["median"] += 1
    assert speed.page(text, results) != text

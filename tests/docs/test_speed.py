"""The page on speed has the results of the stored run."""

import importlib.util
import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def module():
    spec = importlib.util.spec_from_file_location("speed", DOCS / "speed.py")
    speed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(speed)
    return speed


def test_the_tables_come_from_the_stored_runs():
    speed = module()
    text, results = speed.PAGE.read_text(encoding="utf-8"), json.loads(speed.KEPT.read_text(encoding="utf-8"))
    assert speed.page(text, results) == text
    measured = (results["rows"], results["microscope"]["rows"], results["classical"]["1"], results["classical"]["2"])
    for rows in measured:
        rows[0]["ratio"]["median"] += 1
        assert speed.page(text, results) != text
        rows[0]["ratio"]["median"] -= 1


def test_a_run_replaces_only_what_it_measured():
    speed = module()
    stored = {"rows": [1], "call": 2, "classical": {"1": [3], "2": [4]}}
    assert speed.kept(stored, {"rows": [5], "call": None}) == stored | {"rows": [5], "call": None}
    assert speed.kept(stored, {"classical": {"2": [6]}}) == stored | {"classical": {"1": [3], "2": [6]}}

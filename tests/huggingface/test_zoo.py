"""Every model type of transformers, as a tiny random model: docs/models.md is right about it."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.huggingface.zoo import compare, configs, table

FOUND = json.loads(table.JSON.read_text())
IS_ITS_VERSION = version("transformers") == FOUND["transformers"]
of_its_version = pytest.mark.skipif(not IS_ITS_VERSION, reason=f"the table is of transformers {FOUND['transformers']}")


def test_the_page_says_what_was_found():
    assert table.PAGE.read_text() == table.page(FOUND), "run `python -m tests.huggingface.zoo`"


def test_it_is_of_the_pinned_version():
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text()
    for package in ("transformers", "torch"):
        assert re.search(rf"^{package}==(.*)$", pinned, re.M)[1] == FOUND[package]


def test_no_model_type_is_wrong_and_most_are_equal():
    results = [row["result"] for row in FOUND["types"].values()]
    assert "wrong" not in results
    assert set(results) <= set(table.TITLES)
    assert results.count("equal") > len(results) / 2


@of_its_version
def test_no_type_is_left_out():
    assert sorted(FOUND["types"]) == configs.types()


@pytest.mark.slow
@of_its_version
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(FOUND["types"]))
def test_a_type_is_what_the_table_says(name):
    said = FOUND["types"][name]
    row = compare.compare(name)
    if said["result"] in ("in parts", "part", "not asked"):  # with what the table knows from other types
        assert row.result == said["result"].replace("in parts", "not asked")
        return
    assert (row.result, row.reason) == (said["result"], said.get("reason", ""))
    assert row.layers == said.get("layers", [])

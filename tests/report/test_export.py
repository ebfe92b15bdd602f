"""The table of results that other programs read: the same rows in CSV and in Parquet, and no text is a formula."""

import csv
import importlib.util
import io
import json

import pytest
from typer.testing import CliRunner

from limelight import InputError, MissingExtraError, cli
from limelight.experiment import catalog, runner
from limelight.experiment.results import Record
from limelight.report import export
from limelight.report.export import columns, writer
from tests.experiment.large import write_results
from tests.experiment.toy import Faulty, Tuned

RECORDS = [
    Record("toy", "=1+1", 0, "done", "", 0.1, {"size": 0.1 + 0.2}, {}, {"commit": "12e4567"}, "@home"),
    Record("toy", "µ, \"quoted\"\nline", 1_000_000, "diverged", "-inf at step 3 \ud800"),
    Record("other", "one", 2**53 + 1, "done", values={"steps": 3, "seed": 7.5, "measure seed": 1e-300}),
    Record("other", "one", 3, "error", "ValueError: +1"),
]  # fmt: skip
MEASURES = ["size", "steps", "seed", "measure seed", "size"]
HEADINGS = [*export.FIELDS, "size", "steps", "measure seed", "measure measure seed"]


@pytest.fixture
def table():
    return columns(RECORDS, MEASURES)


def from_csv(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_a_table_has_a_row_for_each_trial_and_a_column_for_each_measure(table):
    assert list(table) == HEADINGS
    rows = list(zip(*table.values(), strict=True))
    assert rows[0] == ("toy", "=1+1", 0, "done", "", 0.1, "12e4567", "@home", 0.1 + 0.2, None, None, None)
    assert rows[1][4] == "-inf at step 3 \\ud800"
    assert rows[1][8:] == (None,) * 4
    assert rows[2][2:] == (2**53 + 1, "done", "", 0.0, "", "", None, 3.0, 7.5, 1e-300)


def test_csv_round_trip(table, tmp_path):
    headings, *rows = from_csv(writer(tmp_path / "all.CSV")(table))
    assert headings == HEADINGS
    assert [row[1] for row in rows] == ["'=1+1", 'µ, "quoted"\nline', "one", "one"]
    assert [row[4] for row in rows] == ["", "'-inf at step 3 \\ud800", "", "ValueError: +1"]
    assert [row[7] for row in rows] == ["'@home", "", "", ""]
    assert [int(row[2]) for row in rows] == table["seed"]
    for name in HEADINGS[8:]:
        assert [float(row[headings.index(name)] or "nan") for row in rows] == pytest.approx(
            [float("nan") if value is None else value for value in table[name]], rel=0, abs=0, nan_ok=True
        )


@pytest.mark.parametrize("package", ["pyarrow", "polars"])
def test_parquet_round_trip(table, tmp_path, monkeypatch, package):
    module = pytest.importorskip(package, reason=f"needs {package}: pip install {package}")
    if package == "polars":
        with_only(monkeypatch, "polars")
    path = tmp_path / "all.parquet"
    path.write_bytes(writer(path)(table))
    if package == "pyarrow":
        parquet = pytest.importorskip("pyarrow.parquet")
        found = parquet.read_table(path).to_pydict()
    else:
        found = module.read_parquet(path).to_dict(as_series=False)
    assert found == table
    assert list(found) == HEADINGS
    assert type(found["seed"][0]) is int


def with_only(monkeypatch, *packages):
    """Python as it is where of pyarrow and polars only these are installed."""
    find = importlib.util.find_spec

    def found(name, *rest):
        return None if name in {"pyarrow", "polars"} - {*packages} else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)


def test_without_a_package_for_parquet_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    with_only(monkeypatch)
    with pytest.raises(MissingExtraError, match="needs pyarrow or polars, and neither is installed; run: pip install"):
        writer(tmp_path / "all.parquet")


@pytest.mark.parametrize("name", ["all.json", "all", ".csv", "all.csv.gz"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"--output expects a file that ends in \.csv or \.parquet, got "):
        writer(tmp_path / name)


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claims = {"tuned": Tuned(), "faulty": Faulty()}
    monkeypatch.setattr(catalog, "names", lambda: list(claims))
    monkeypatch.setattr(catalog, "claim", claims.get)
    return lambda *arguments: CliRunner().invoke(cli.app, ["export", *arguments], env={"COLUMNS": "200"})


class OfSize(Tuned):
    measures = {"size": Tuned.measures["size"]}


def test_the_command_writes_all_trials_of_all_claims(call, tmp_path, monkeypatch):
    write_results("results", Faulty(), range(2))
    monkeypatch.setattr(Tuned, "measures", OfSize.measures)
    write_results("results", Tuned(), [*range(3), runner.FIRST_OF_REPLICATION])
    done = call("--output", "all.csv")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'all.csv'} (26 rows)" in done.stdout
    headings, *rows = from_csv((tmp_path / "all.csv").read_bytes())
    assert headings == [*export.FIELDS, "size"]
    assert len(rows) == 4 * 3 + 2 * 7
    assert {row[2] for row in rows if row[0] == "tuned"} == {"0", "1", "2", "1000000"}
    told = json.loads(call("faulty", "--output", "all.csv", "--json").stdout)  # as `report`, it replaces the file
    assert told == {
        "export": "all.csv", "bytes": (tmp_path / "all.csv").stat().st_size, "rows": 14, "claims": ["faulty"],
    }  # fmt: skip


def test_nothing_to_export_is_a_sentence(call, tmp_path):
    done = call("--output", "all.csv")
    assert done.exit_code == cli.BAD_INPUT
    assert "no results in results to export; run `limelight run` first" in done.stderr
    assert not (tmp_path / "all.csv").exists()

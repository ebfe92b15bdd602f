"""The report: one complete file, and safe with any text of a claim or an error."""

import base64
import csv
import io
import json
import math
import re

import pytest

from limelight.experiment.results import Record, Results
from limelight.experiment.statistics import Interval, exact, share
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.experiment.verdict import Part
from limelight.report import page as report
from limelight.report.csv import as_csv
from limelight.report.effect_text import doubt_text, effect_text, number
from limelight.report.entry import Entry
from limelight.report.forest_plot import bar
from tests.experiment.strange import Strange
from tests.experiment.toy import Diverging, Toy


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("results"))
    entries = []
    for claim in (Toy(), Diverging()):
        for seed in range(10):
            for arm in claim.arms:
                run_trial(claim, arm, seed, store.folder)
        results = store.results(claim)
        entries.append(Entry(claim, results, claim.verdict(results)))
    return report.render(entries)


def test_everything_is_in_it(page):
    for expected in (
        "Is one more than zero?", "one is more than zero by a half", "at least 0.500", "limelight run toy --seeds 10",
        "supported", "98%", "torch 2.", "5 of 30 runs failed", "the loss became inf at step 3", "Source: nowhere",
    ):  # fmt: skip
        assert expected in page, expected


def test_nothing_leaves_the_page(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    markup = page[: page.index('<script type="application/json"')]
    assert not re.findall(r'(?:src|href)="(?!#|data:text/csv;base64,)', markup)
    assert len(page.encode()) < 6e6


def test_all_values_can_be_downloaded_as_csv(page):
    link = re.search(r'download="diverging.csv" href="data:text/csv;base64,([^"]+)"', page).group(1)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link).decode())))
    assert len(rows) == 30
    assert list(rows[0]) == ["arm", "seed", "status", "reason", "seconds", "size"]
    failed = [row for row in rows if row["status"] == "diverged"]
    assert len(failed) == 5
    assert {(row["reason"], row["size"]) for row in failed} == {("the loss became inf at step 3", "")}
    assert float(rows[0]["size"]) == pytest.approx(1.0, abs=0.5)


def test_a_spreadsheet_takes_no_text_for_a_formula():
    record = Record("c", "=1+1", 0, "error", "@SUM(A1)")
    assert as_csv(Results(["=1+1"], {}, [record])).splitlines()[1] == "'=1+1,0,error,'@SUM(A1),0.0"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part("a", Interval(0.5, 0.25, 0.75, 10), "at most", 1.0, "cm"), "0.500 [0.250, 0.750] cm"),
        (Part("a", Interval(0.5, 0.25, math.inf, 10, "median"), "at most", 1.0, "cm"), "median 0.500 [0.250, ∞] cm"),
        (Part("a", share([1] * 9 + [0]), "at least", 0.5, "of runs"), "9 of 10 runs [0.496, 0.999]"),
        (Part("a", exact([1.0, 2.0, 3.0]), "at most", 9.0, "cm"), "2.00 (exact: 1.00 to 3.00 in 3 runs) cm"),
    ],
)
def test_an_effect_is_written_as_what_it_is(part, words):
    assert effect_text(part) == words


def test_an_undecided_part_says_why_where_its_interval_does_not():
    clear = Interval(2.0, 1.5, 2.5, 10)
    assert doubt_text(Part("a", clear, "at least", 1.0, p=0.08)) == (
        "p = 0.0800 after correction for the number of parts"
    )
    assert not doubt_text(Part("a", clear, "at least", 1.0, p=0.01))
    assert not doubt_text(Part("a", Interval(2.0, 0.5, 2.5, 10), "at least", 1.0, p=0.08))


def test_what_claims_and_failures_say_is_escaped(page):
    assert "<script>alert" not in page
    assert "More is more &lt;script&gt;alert(&#39;title&#39;)&lt;/script&gt;" in page
    assert "A caption with &lt;b&gt;markup&lt;/b&gt;" in page
    figures = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL).group(1)
    assert len(json.loads(figures)) == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (1.0, "1.00"), (0.01234, "0.0123"), (123.4, "123"), (-0.5, "−0.500"), (1e-7, "1.00e−7"),
     (2.5e6, "2.50e6"), (float("inf"), "∞"), (float("-inf"), "−∞"), (float("nan"), "not defined")],
)  # fmt: skip
def test_numbers_have_three_digits(value, told):
    assert number(value) == told


INFINITE = float("inf")
INTERVALS = [(1.0, 0.5, 2.0), (0.1, 0.0, INFINITE), (float("nan"), 0.0, INFINITE), (1.0, 1.0, 1.0)]


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("unit", ["times", "share"])
def test_a_bar_can_be_drawn_of_any_interval(interval, unit):
    drawn = bar(Part("a", Interval(*interval, 10), "at most", 0.5, unit))
    assert "nan" not in drawn
    assert "inf" not in re.sub(r'aria-label="[^"]*"', "", drawn).replace("interval", "")
    inside = [float(x) for x in re.findall(r'(?:x1|x2|cx)="([^"]+)"', drawn)]
    assert all(0 <= x <= 180 for x in inside)


class StrangeWords(Strange):
    arms = Toy.arms


def test_control_characters_and_halves_of_surrogate_pairs_are_shown_as_escapes(tmp_path):
    claim = StrangeWords()
    for seed in range(2):
        for arm in claim.arms:
            run_trial(claim, arm, seed, tmp_path)
    results = Store(tmp_path).results(claim)
    page = report.render([Entry(claim, results, claim.verdict(results))])
    page.encode()  # what UTF-8 cannot hold would raise
    text = page[page.index("<body") : page.index('<script type="application/json"')]
    assert "title [/bold] [red]x[/] :smile: \\ [link=file:///x]\\x1b[31m\\x1b]0;title\\x07\\x9b2J" in text
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\udce9"} & set(text)

"""The report: one complete file, and safe with any text of a claim or an error."""

import json
import re

import pytest

from limelight.experiment.statistics import Interval
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.experiment.verdict import Part
from limelight.report import page as report
from limelight.report.forest_plot import bar, number
from limelight.report.page import Entry
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
    assert not re.findall(r'(?:src|href)="(?!#)', markup)
    assert len(page.encode()) < 6e6


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

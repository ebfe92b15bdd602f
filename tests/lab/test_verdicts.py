"""The page of verdicts without a browser: what it reads, what it shows, and how it handles invalid input."""

import json
import math
from importlib.resources import files

import pytest
from dash.development.base_component import Component

from limelight.errors import InputError
from limelight.experiment import catalog
from limelight.experiment.statistics import Interval
from limelight.experiment.trial import run_trial
from limelight.experiment.verdict import Part
from limelight.lab.pages import PAGES
from limelight.lab.pages.verdicts.claim_view import evidence, pictures, verdict_view
from limelight.lab.pages.verdicts.page import content, seeds_of
from limelight.lab.pages.verdicts.parts import bar as drawn_bar
from limelight.lab.pages.verdicts.progress import end_message, progress_key, progress_view, time_left
from limelight.lab.pages.verdicts.results_cache import ResultsCache, load_claim
from limelight.lab.pages.verdicts.rows import cells, next_run_button
from limelight.lab.runs import Progress, Runs
from limelight.report.forest_plot import bar, bar_layout
from tests.experiment.toy import Diverging, Faulty, Toy


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for claim in (Toy(), Diverging()):
        for seed in range(10):
            for arm in claim.arms:
                run_trial(claim, arm, seed, folder)
    return folder


def text(shown):
    """All visible text of a component."""
    if isinstance(shown, Component):
        return text(getattr(shown, "children", None))
    if isinstance(shown, list | tuple):
        return " ".join(text(each) for each in shown)
    return "" if shown is None else str(shown)


def test_a_row_has_the_verdict_and_its_main_effect(results):
    found = ResultsCache(results).status(Toy())
    told = [text(cell) for cell in cells(Toy(), found)]
    assert told[0] == "supported"
    assert told[1].startswith("1 of 1")
    assert told[2].startswith("one is more than zero by a half")
    assert told[3].startswith("10 20")  # and a date
    assert told[4] == "Run 30 seeds"


def test_no_style_changes_a_letter():
    """α with a capital is A, which is another symbol."""
    sheets = [
        *files("limelight.lab").joinpath("assets").iterdir(),
        *(asset for page in PAGES for asset in page.assets),
        files("limelight.report").joinpath("report.css"),
    ]
    sheets = [sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.name.endswith(".css")]
    assert len(sheets) > 2
    assert not any("text-transform" in sheet or "font-variant-caps" in sheet for sheet in sheets)


def test_a_claim_in_full_has_all_that_the_report_has(results):
    found = ResultsCache(results).status(Diverging())
    told = " ".join([text(verdict_view(found)), text(evidence(found))])
    for expected in ("inconclusive", "one is more than zero by a half", "at least 0.500", "5 of 30 runs failed",
                     "the loss became inf at step 3", "limelight run diverging --seeds 10",
                     "this ought to fail, and does"):  # fmt: skip
        assert expected in told


def test_pictures_have_places_of_their_height_and_are_json(results):
    bar_layout, figures = pictures("toy", ResultsCache(results).pictures(Toy()))
    assert list(figures) == ["verdict-picture-toy-0"]
    assert json.dumps(figures, allow_nan=False)
    place = bar_layout[0].children[0].children[0]
    assert place.style["height"] == f"{figures[place.id]['layout']['height']}px"


def test_results_are_read_once_until_they_change(results, tmp_path, monkeypatch):
    cache, read = ResultsCache(tmp_path), []
    original = ResultsCache._read
    monkeypatch.setattr(ResultsCache, "_read", lambda self, claim: read.append(claim.name) or original(self, claim))
    assert cache.status(Toy()).kept == 0
    assert cache.stamp("toy") == ""
    run_trial(Toy(), "one", 0, tmp_path)
    assert [cache.status(Toy()).kept for _ in range(3)] == [1, 1, 1]
    assert len(read) == 2
    run_trial(Toy(), "zero", 0, tmp_path)
    assert cache.status(Toy()).kept == 2


def test_only_a_few_claims_keep_their_pictures(results):
    cache = ResultsCache(results)
    for name in ("a", "b", "c", "d", "e"):
        claim = Toy()
        claim.name = name
        cache.pictures(claim)
    assert list(cache._pictures) == ["c", "d", "e"]


def test_without_results_it_says_so_and_leaves_no_folder(tmp_path):
    cache = ResultsCache(tmp_path / "none")
    found = cache.status(Toy())
    assert [text(cell) for cell in cells(Toy(), found)] == ["no result yet", "", "Not run yet.", "", "Run 10 seeds"]
    assert "no result yet" in text(verdict_view(found))
    assert cache.pictures(Toy()) == []
    assert not (tmp_path / "none").exists()


def test_runs_without_a_complete_seed_are_reported_and_others_do_not_count(tmp_path):
    run_trial(Toy(), "one", 0, tmp_path)
    (tmp_path / "toy" / f"{0:064x}.json").write_text("{}")
    found = ResultsCache(tmp_path).status(Toy())
    assert (found.verdict, found.kept, found.others) == (None, 1, 1)
    assert "1 run kept" in text(cells(Toy(), found))


def test_a_claim_that_raises_takes_nothing_with_it(tmp_path, monkeypatch):
    for arm in Toy.arms:
        run_trial(Toy(), arm, 0, tmp_path)
    monkeypatch.setattr(Toy, "judge", lambda self, results: 1 / 0)
    found = ResultsCache(tmp_path).status(Toy())
    assert "cannot be judged: ZeroDivisionError" in text(cells(Toy(), found))
    monkeypatch.setattr(catalog, "claim", lambda name: 1 / 0)
    assert "toy cannot be read: ZeroDivisionError" in load_claim("toy")


def test_runs_that_raised_make_it_inconclusive_and_are_listed(tmp_path):
    for arm in Faulty.arms:
        run_trial(Faulty(), arm, 0, tmp_path)
    assert "runs failed" in text(evidence(ResultsCache(tmp_path).status(Faulty())))


def test_the_table_has_every_claim_and_the_address_opens_one(results):
    cache, runs = ResultsCache(results), Runs(results)
    told = text(content("", cache, runs))
    assert all(claim.title in told for claim in catalog.claims())
    slopes, lipschitz = catalog.claim("slopes"), catalog.claim("lipschitz")
    told = text(content("?claim=slopes", cache, runs))
    assert slopes.question in told
    assert lipschitz.title not in told


@pytest.mark.parametrize(
    "query", ["?claim=sloped", "?claim=" + "x" * 9000, "?claim=%00%ff", "?claim=../slopes", "?claim=<b>"]
)
def test_a_name_that_no_claim_has_gets_a_sentence_and_the_table(results, query):
    told = text(content(query, ResultsCache(results), Runs(results)))
    assert "There is no claim called" in told
    assert catalog.claim("slopes").title in told
    assert len(told) < 10_000
    assert ("Did you mean" in told) == ("slope" in query)


@pytest.mark.parametrize("given", [None, "ten", True, 1.5, math.nan, math.inf, [10], {}])
def test_seeds_that_are_no_number_get_a_sentence(given):
    with pytest.raises(InputError, match="a whole number from 1 to 200"):
        seeds_of("own", given)


def test_seeds_of_a_button_and_of_the_box():
    assert (seeds_of(10, None), seeds_of("own", 12), seeds_of("own", 12.0)) == (10, 12, 12)


def test_the_offered_number_of_seeds_is_the_next_useful_one():
    assert [text(next_run_button("toy", seeds)) for seeds in (0, 9, 10, 29, 30)] == [
        "Run 10 seeds", "Run 10 seeds", "Run 30 seeds", "Run 30 seeds", "",
    ]  # fmt: skip


def progress(state, done=3, known=2, left=None, reason=""):
    return Progress(state, 10, 12, known, done, left, reason)


def test_a_run_is_shown_with_its_progress_and_its_end():
    bar, far, cancel = progress_view("toy", progress("running", left=70))
    assert (bar.value, bar.max, cancel.disabled) == ("5", "12", False)
    assert "5 of 12 runs" in text(far)
    assert progress_view("toy", progress("stopping"))[2].disabled
    assert end_message(progress("done", 10)) == "Done: 10 runs, besides 2 that had a result before."
    assert end_message(progress("canceled")) == "Canceled. 5 of 12 runs are kept; the next run computes the rest."
    assert "ended early: no room left. 5 of 12" in end_message(progress("failed", reason="no room left."))
    assert progress_view("toy", None) == []
    assert (
        progress_key(progress("running"))
        != progress_key(progress("running", done=4))
        != progress_key(progress("done", done=4))
        != progress_key(None)
    )


@pytest.mark.parametrize(
    ("seconds", "told"), [(None, "starting …"), (0.2, "about 1 s left"), (59, "about 59 s left"),
                          (600, "about 10 min left"), (9000, "about 2.5 h left")],
)  # fmt: skip
def test_the_time_left_is_no_finer_than_it_is_known(seconds, told):
    assert time_left(seconds) == told


@pytest.mark.parametrize("expects", ["at least", "at most"])
def test_the_bars_are_those_of_the_report(expects):
    part = Part("a", Interval(2.0, 1.0, math.inf, 10), expects, 1.5, "times")
    at = bar_layout(part)
    assert 0 <= at.low < at.threshold < at.estimate <= at.high <= 1
    assert at.expected == ((at.threshold, 1.0) if expects == "at least" else (0.0, at.threshold))
    assert f'cx="{180 * at.estimate:.1f}"' in bar(part)
    spans = drawn_bar(part).children
    assert [span.className for span in spans] == ["range", "threshold", "line", "dot"]
    assert spans[-1].style["left"] == f"{at.estimate:.1%}"

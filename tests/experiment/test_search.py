"""A declared search: every arm tries the same rates on seeds that no verdict uses, and what was found is shown."""

import json

import pytest
from typer.testing import CliRunner

from limelight import cli
from limelight.claims.slopes import Slopes
from limelight.experiment import catalog, runner
from limelight.experiment.claim_file import ClaimFile
from limelight.experiment.fingerprint import trial_key
from limelight.experiment.search import FIRST_SEED, SEEDS, Search, searched
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.report import page as report
from limelight.report.entry import Entry
from tests.experiment.toy import BEST_RATE, Toy, Tuned


def run(trials, store):
    for trial in trials:
        run_trial(trial.claim, trial.arm, trial.seed, store.folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("results"))
    run(runner.trials([Search(Tuned())], SEEDS, first=FIRST_SEED), store)
    return store


def test_every_arm_tries_every_rate_and_the_best_is_known(store):
    found = searched(Tuned(), store)
    assert [each.arm for each in found] == list(Tuned.arms)
    assert {each.arm: each.best for each in found} == BEST_RATE
    assert all(set(each.scores) == set(Tuned.rates) for each in found)
    assert len(list((store.folder / "tuned-search").glob("*.json"))) == 3 * 2 * SEEDS
    assert store.results(Tuned(), 1, FIRST_SEED).records == []  # a search is no evidence


def test_a_trial_has_the_rate_that_was_chosen(tmp_path):
    chosen = Tuned().measure("zero", 3).values["error"]
    assert chosen == Tuned().measure_at("zero", 0.1, 3).values["error"]
    assert chosen != Tuned().measure_at("zero", 0.3, 3).values["error"]


def test_without_results_and_without_a_search_there_is_nothing(tmp_path):
    assert searched(Tuned(), Store(tmp_path)) == []
    assert searched(Toy(), Store(tmp_path)) == []


def test_results_of_a_search_are_named_by_the_code_of_the_claim(monkeypatch):
    search = Search(Slopes())
    arm = next(iter(search.arms))
    assert search.measured_by() is Slopes
    assert trial_key(search, arm, 0) != trial_key(Slopes(), "gate of five", 0)


def test_what_a_claim_shares_its_search_shares_for_each_rate():
    search = Search(Slopes())
    groups = runner.grouped(runner.trials([search], SEEDS, first=FIRST_SEED), workers=1)
    assert len(groups) == len(search.arms)
    assert all(len({trial.arm for trial in group}) == 1 for group in groups)


def test_the_command_prints_the_table(store, monkeypatch):
    monkeypatch.setattr(catalog, "claim", lambda name: {"tuned": Tuned, "toy": Toy}[name]())

    def call(*arguments):
        return CliRunner().invoke(cli.app, [*arguments, "--results", str(store.folder)], env={"COLUMNS": "200"})

    shown = call("tune", "tuned")
    assert shown.exit_code == 0
    assert "all 36 runs have results already" in shown.stderr
    assert "These arms have another: zero." in shown.stdout
    found = json.loads(call("tune", "tuned", "--json").stdout)
    assert found["arms"]["zero"]["chosen"] == 0.1
    assert found["arms"]["zero"]["scores"]["0.1"] > found["arms"]["zero"]["scores"]["0.3"]
    refused = call("tune", "toy")
    assert refused.exit_code == cli.BAD_INPUT
    assert "toy has no learning rates to search" in refused.stderr


def test_the_report_draws_it(store):
    claim = Tuned()
    run(runner.trials([claim], 10), store)
    results = store.results(claim)
    entry = Entry(claim, results, claim.verdict(results), searched(claim, store))
    shown = report.render([entry])
    assert "every arm tried the same learning rates on 6 other seeds" in shown
    assert "every arm tried" not in report.render([Entry(claim, results, entry.verdict)])


ELSEWHERE = """
from tests.experiment.toy import Toy
from limelight.experiment.measure import Measurement
from limelight.experiment.search import TunedClaim
class TunedElsewhere(TunedClaim, Toy):
    name = "tuned_elsewhere"
    score = "size"
    rates = (0.1,)
    chosen = dict.fromkeys(Toy.arms, 0.1)
    def measure_at(self, arm, rate, seed):
        return Measurement({"size": rate + seed})
"""


def written(folder, text=ELSEWHERE):
    path = folder / f"tuned_elsewhere_{folder.name}.py"
    path.write_text(text, encoding="utf-8")
    return catalog.claim(str(path))


def test_the_search_of_a_claim_in_a_file_reaches_a_worker_as_text(tmp_path):
    search = Search(written(tmp_path))
    rebuild, (sent,) = search.__reduce__()
    assert isinstance(sent, ClaimFile)
    again = rebuild(sent)
    assert again.arms == search.arms
    arm = next(iter(search.arms))
    assert again.measure(arm, 0).values == search.measure(arm, 0).values


@pytest.mark.parametrize(
    ("old", "new", "is_measured_anew", "is_searched_anew"),
    [
        ("0.1)", "0.3)", True, False),  # the rate that is chosen
        ("(0.1,)", "(0.1, 0.3)", False, False),  # one more rate to try
        ("rate + seed", "rate - seed", True, True),
    ],
)
def test_another_choice_of_rates_searches_nothing_anew(tmp_path, old, new, is_measured_anew, is_searched_anew):
    keys = []
    for text in (ELSEWHERE, ELSEWHERE.replace(old, new)):
        claim = written(tmp_path, text)
        search = Search(claim)
        keys.append([trial_key(each, next(iter(each.arms)), 0) for each in (claim, search)])
    assert [one != other for one, other in zip(*keys, strict=True)] == [is_measured_anew, is_searched_anew]

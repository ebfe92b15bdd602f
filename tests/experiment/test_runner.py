"""Trials in parallel: killed and started again, two runners at once, errors and divergence, and a cluster."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from limelight import ClusterError, InputError, MissingExtraError, UnknownNameError
from limelight.experiment import backends, runner
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.toy import GATE, Diverging, Faulty, Sharing, Toy

SEEDS = 10


def run_here(claim, folder, seeds=SEEDS):
    for trial in runner.trials([claim], seeds):
        run_trial(trial.claim, trial.arm, trial.seed, folder)
    return Store(folder).results(claim)


@contextmanager
def driven(folder, seeds=SEEDS, **environment):
    """The runner as a process group, which is always killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.experiment.drive", str(folder), str(seeds)],
        stdout=subprocess.PIPE, text=True, env=os.environ | environment, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def test_killed_in_the_middle_only_the_missing_cells_run_and_the_verdict_is_the_same(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with driven(tmp_path / "killed", **{GATE: str(gate)}) as process:
        done = [process.stdout.readline().split() for _ in range(5 * len(Toy.arms))]  # seed 5 waits at the gate
        process.kill()
        process.wait(timeout=60)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "toy").iterdir()}
    assert len(done) == len(before) == 15

    trials = runner.missing(runner.trials([Toy()], SEEDS), Store(tmp_path / "killed"))
    assert len(trials) == 15
    runner.run(trials, Store(tmp_path / "killed"), workers=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    resumed, whole = Store(tmp_path / "killed").results(Toy()), run_here(Toy(), tmp_path / "whole")
    assert Toy().verdict(resumed) == Toy().verdict(whole)
    assert Toy().verdict(whole).outcome == "supported"
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_two_runners_on_one_folder(tmp_path):
    with driven(tmp_path / "shared", 20) as first, driven(tmp_path / "shared", 20) as second:
        outputs = [process.communicate(timeout=180)[0] for process in (first, second)]
    assert all(output.splitlines()[-1].startswith("ran") for output in outputs)
    store = Store(tmp_path / "shared")
    results = store.results(Toy())
    assert store.damaged == []
    assert results.seeds() == list(range(20))
    assert [r.values for r in results.records] == [r.values for r in run_here(Toy(), tmp_path / "alone", 20).records]


def test_a_fault_and_a_divergence_are_results_with_their_reason(tmp_path):
    results = run_here(Faulty(), tmp_path)
    by_arm = {record.arm: record for record in results.failures}
    assert by_arm["raises"].status == "error"
    assert by_arm["raises"].reason.startswith("RuntimeError: as it does")
    assert (by_arm["diverges"].status, by_arm["diverges"].reason) == ("diverged", "the loss became inf at step 3")
    assert (by_arm["infinite"].status, by_arm["infinite"].reason) == ("diverged", "not finite: size")
    assert by_arm["forgets"].status == "error"
    assert "expected the measures ['size'], got []" in by_arm["forgets"].reason
    assert results.values("diverges", "size").tolist() == [-9.0] * SEEDS
    assert Faulty().verdict(results) is None  # an arm without any valid result


def test_a_fault_is_tried_again_and_a_divergence_is_not(tmp_path):
    run_here(Faulty(), tmp_path, seeds=1)
    again = runner.missing(runner.trials([Faulty()], 1), Store(tmp_path))
    assert {trial.arm for trial in again} == {"raises", "forgets"}


def test_a_run_that_diverged_counts_against_its_arm(tmp_path):
    results = run_here(Diverging(), tmp_path)
    assert results.values("one", "size").min() == -9.0
    assert len(results.seeds()) == SEEDS
    assert Diverging().verdict(results).parts[0].effect.estimate < -3  # where the runs that ended well have 1


def test_one_fault_leaves_the_verdict_open(tmp_path, monkeypatch):
    run_here(Toy(), tmp_path, seeds=12)
    store = Store(tmp_path)
    monkeypatch.setattr(Toy, "measure", lambda *_: 1 / 0)
    store.path(Toy(), "one", 11).unlink()
    run_trial(Toy(), "one", 11, tmp_path)
    verdict = Toy().verdict(store.results(Toy()))
    assert verdict.outcome == "inconclusive"
    assert "1 trials raised an error" in verdict.sentence
    assert "ZeroDivisionError" in verdict.sentence


def test_cells_go_seed_by_seed():
    trials = runner.trials([Toy()], 2, ["zero", "one"])
    assert [(trial.arm, trial.seed) for trial in trials] == [("one", 0), ("zero", 0), ("one", 1), ("zero", 1)]


def test_trials_that_share_something_are_one_group_unless_workers_would_be_idle():
    trials = runner.trials([Sharing(), Toy()], 3)
    groups = runner.grouped(trials, workers=2)
    assert sorted(len(group) for group in groups) == [1] * 9 + [3] * 3
    assert [trial for group in groups for trial in group if trial.claim.name == "toy"] == trials_of(trials, "toy")
    for group in groups:
        assert len({(trial.claim.name, trial.claim.shares(trial.arm, trial.seed)) for trial in group}) == 1
    for workers, sizes in ((4, [3, 3, 3]), (6, [1, 1, 1, 2, 2, 2]), (8, [1, 1, 1, 2, 2, 2]), (50, [1] * 9)):
        parts = runner.grouped(trials_of(trials, "sharing"), workers)
        assert sorted(len(part) for part in parts) == sizes
        assert {trial for part in parts for trial in part} == set(trials_of(trials, "sharing"))
    assert runner.grouped([], workers=2) == []


def trials_of(trials, name):
    return [trial for trial in trials if trial.claim.name == name]


def test_trials_that_share_something_run_in_one_process(tmp_path):
    store, seen = Store(tmp_path), []
    runner.run(runner.trials([Sharing()], 6), store, workers=2, done=seen.append)
    assert len(seen) == 18
    results = store.results(Sharing())
    sizes = np.stack([results.values(arm, "size") for arm in Sharing.arms])
    assert (sizes == sizes[0]).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda store: runner.trials([Toy()], 0), InputError, "--seeds expects a whole number ≥ 1 and ≤ 10000, got 0"),
        (lambda store: runner.trials([Toy()], 1, ["two"]), UnknownNameError, "unknown arm of toy 'two'"),
        (lambda store: run_with(store, workers=0), InputError, "--workers expects a whole number ≥ 1, got 0"),
        (lambda store: run_with(store, backend="slurm"), UnknownNameError, "unknown backend 'slurm'"),
        (lambda store: run_with(store, address="tcp://127.0.0.1:1"), InputError, "loky.*takes no address"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, call, error, says):
    with pytest.raises(error, match=says):
        call(Store(tmp_path))
    assert not list(tmp_path.iterdir())


def run_with(store, **options):
    runner.run(runner.trials([Toy()], 1), store, **options)


def test_a_missing_extra_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs ray.*pip install -e '\.\[ray\]'"):
        run_with(Store(tmp_path), backend="ray")


class TestDask:
    """On a cluster of this machine, with threads, which must not share their random numbers."""

    pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the warnings of distributed

    def test_the_same_results_as_here(self, tmp_path):
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None, host="127.0.0.1"
        ) as cluster:
            run_with_seeds = runner.trials([Toy()], 4)
            runner.run(run_with_seeds, Store(tmp_path / "dask"), "dask", address=cluster.scheduler_address)
        there, here = Store(tmp_path / "dask").results(Toy()), run_here(Toy(), tmp_path / "here", 4)
        assert [record.values for record in there.records] == [record.values for record in here.records]

    def test_no_answer_is_one_sentence(self, tmp_path, monkeypatch):
        pytest.importorskip("distributed")
        monkeypatch.setattr(backends, "_PATIENCE", 1)
        with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9") as caught:
            run_with(Store(tmp_path), backend="dask", address="tcp://127.0.0.1:9")
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of its own
def test_the_same_results_on_ray(tmp_path):
    """In processes of a cluster that is started for it."""
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'; make test-latest has it")
    runner.run(runner.trials([Toy()], 4), Store(tmp_path / "ray"), "ray", workers=2)
    there, here = Store(tmp_path / "ray").results(Toy()), run_here(Toy(), tmp_path / "here", 4)
    assert [record.values for record in there.records] == [record.values for record in here.records]

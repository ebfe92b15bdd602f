"""Run the trials that have no result yet, in parallel. Each result is written as soon as its trial is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limelight.errors import InputError
from limelight.experiment import backends
from limelight.experiment.claim import Experiment
from limelight.experiment.claim_file import file_of
from limelight.experiment.fingerprint import circumstances
from limelight.experiment.results import Record
from limelight.experiment.store import Store
from limelight.experiment.trial import Call, run_trials

QUICK, FULL = 10, 30  # numbers of seeds
MOST_SEEDS = 10_000  # a larger number is a typing error, and its list of trials would not fit in memory
FIRST_OF_REPLICATION = 1_000_000  # seeds from here on are for replications, so that no verdict has used them


@dataclass(frozen=True)
class Trial:
    """One arm of one claim on one seed."""

    claim: Experiment
    arm: str
    seed: int


def trials(claims: Sequence[Experiment], seeds: int, arms: Sequence[str] = (), first: int = 0) -> list[Trial]:
    """All trials of these claims, or only those of the given arms, ordered by seed so that all arms advance together.

    The seeds are `first`, `first` + 1, and so on.

    Raises `InputError` for fewer than one seed or more than `MOST_SEEDS`, and `UnknownNameError` for an arm that no
    claim has.

    >>> from limelight.experiment.catalog import claim
    >>> from limelight.experiment.runner import trials
    >>> len(trials([claim('slopes')], seeds=10)), len(trials([claim('slopes')], seeds=10, arms=['one line']))
    (80, 10)
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise InputError(
            f"--seeds expects a whole number ≥ 1 and ≤ {MOST_SEEDS}, got {seeds}; a verdict needs at least {QUICK}"
        )
    for arm in arms:
        if not any(arm in claim.arms for claim in claims):
            claims[0].require_arm(arm)
    return [
        Trial(claim, arm, seed)
        for seed in range(first, first + seeds)
        for claim in claims
        for arm in claim.arms
        if not arms or arm in arms
    ]


def missing(wanted: Sequence[Trial], store: Store) -> list[Trial]:
    """The trials that have to be run: those without a record, and those that raised an error, which are tried again."""
    with contextlib.ExitStack() as open_claims:
        find = {claim: open_claims.enter_context(store.reading(claim)) for claim in {trial.claim for trial in wanted}}
        known = {trial: find[trial.claim](trial.arm, trial.seed) for trial in wanted}
    return [trial for trial, record in known.items() if record is None or record.status == "error"]


def check_workers(backend: str = "loky", workers: int | None = None, address: str | None = None) -> None:
    """Raise `UnknownNameError` or `InputError` unless these say where to run. No cluster is contacted."""
    backends.check(backend, address)
    if workers is not None and workers < 1:
        raise InputError(f"--workers expects a whole number ≥ 1, got {workers}")


def run(
    wanted: Sequence[Trial],
    store: Store,
    backend: str = "loky",
    workers: int | None = None,
    address: str | None = None,
    done: Callable[[Record], None] = lambda record: None,
) -> None:
    """Compute these trials and write their results to the store; `done` is called with each record.

    Trials that share what they compute are run by one worker, or by several if others had nothing to do.

    Workers write their results themselves where they share the folder. Where they do not, a result is written here when
    it arrives. If the run is interrupted, the results of all finished trials are kept. Raises `StoreError` where the
    folder cannot be written.
    """
    check_workers(backend, workers, address)
    if not wanted:
        return
    count = backends.cores() if workers is None else workers
    folder = store.folder.resolve()
    claims = {trial.claim.name: trial.claim for trial in wanted}
    expected = {name: circumstances(claim) for name, claim in claims.items()}
    sent = {name: file_of(type(claim)) or claim for name, claim in claims.items()}  # a file travels as its text

    def call(trial: Trial) -> Call:
        name = trial.claim.name
        return sent[name], trial.arm, trial.seed, Path(folder), expected[name]

    groups = [[call(trial) for trial in group] for group in grouped(wanted, count)]
    with backends.workers(backend, min(count, len(groups)), address) as parallel_map:
        store.require_writable(claims.values())
        for records in parallel_map(run_trials, [(group,) for group in groups]):
            for record in records:
                claim = claims[record.claim]
                if store.load(claim, record.arm, record.seed) != record:
                    store.save(claim, record)
                done(record)


def grouped(wanted: Sequence[Trial], workers: int) -> list[list[Trial]]:
    """The trials in groups that share what they compute. A group is divided as long as each part has its own worker.

    >>> from limelight.experiment.catalog import claim
    >>> from limelight.experiment.runner import grouped, trials
    >>> wanted = trials([claim('batch_norm_shift')], seeds=10)  # five arms, which share the networks of a seed
    >>> [len(group) for group in grouped(wanted, workers=4)][:3], len(grouped(wanted, workers=40))
    ([5, 5, 5], 40)
    """
    groups: dict[Hashable, list[Trial]] = {}
    for trial in wanted:
        groups.setdefault((trial.claim.name, trial.claim.shares(trial.arm, trial.seed)), []).append(trial)
    parts = max(workers // max(len(groups), 1), 1)
    return [group[part::parts] for group in groups.values() for part in range(min(parts, len(group)))]

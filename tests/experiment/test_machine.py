"""What a result says of where it was computed."""

import re

import pytest

from limelight.experiment import trial
from limelight.experiment.fingerprint import versions
from limelight.experiment.machine import commit, processor
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.toy import Toy


def test_a_result_says_on_what_it_was_computed(tmp_path):
    assert re.fullmatch(r".+, \d+ cores?", processor())
    assert run_trial(Toy(), "one", 0, tmp_path).machine == processor()
    assert Store(tmp_path).load(Toy(), "one", 0).machine == processor()


@pytest.mark.parametrize("known", ["1234567", ""])
def test_a_result_says_which_commit_computed_it_where_that_is_known(tmp_path, monkeypatch, known):
    monkeypatch.setattr(trial, "commit", lambda: known)
    assert run_trial(Toy(), "one", 0, tmp_path).versions.get("commit", "") == known
    assert set(Store(tmp_path).load(Toy(), "one", 0).versions) - {"commit"} == set(versions())


def test_the_commit_is_that_of_the_clone_and_empty_without_git(monkeypatch):
    assert re.fullmatch(r"([0-9a-f]{7,})?", commit())
    monkeypatch.setenv("PATH", "")
    assert commit.__wrapped__() == ""

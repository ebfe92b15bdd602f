"""scikit-learn's own tests of the estimators that Limelight has too, run on Limelight's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KNOWN = json.loads((Path(__file__).parent / "scikit_learn_failures.json").read_text(encoding="utf-8"))
MODULES = [
    "sklearn.cluster.tests.test_mean_shift",
    "sklearn.cluster.tests.test_spectral",
    "sklearn.manifold.tests.test_spectral_embedding",
    "sklearn.semi_supervised.tests.test_label_propagation",
]


def known(test, message):
    """The entry of the table that says why this test fails, if one does."""
    return next(
        (each for each in KNOWN if test.startswith(each["tests"]) and re.match(each["message"], message)),
        None,
    )


@pytest.mark.slow
def test_scikit_learns_tests_pass_or_fail_for_a_listed_reason(tmp_path):
    """Runs in a process of its own, with scikit-learn's pytest settings."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    outcomes = tmp_path / "outcomes.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OUTCOMES": str(outcomes),
        "SKLEARN_RUN_FLOAT32_TESTS": "1",
        "PYTEST_ADDOPTS": "",
    }
    options = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "-p", "tests.classical.in_place", "--pyargs", *MODULES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip
    assert outcomes.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads(outcomes.read_text(encoding="utf-8"))
    assert told["collected"] > 300
    reasons = {test: known(test, message) for test, message in told["failed"].items()}
    assert [f"{test}: {told['failed'][test]}" for test, reason in reasons.items() if reason is None] == []
    unused = [each for each in KNOWN if not any(reason is each for reason in reasons.values())]
    assert unused == [], "these no longer fail: take them out of the table"


def test_an_unlisted_failure_is_a_failure():
    assert known("test_mean_shift::test_max_iter[100]", "assert False")
    assert known("test_mean_shift::test_max_iter[100]", "an error of another kind") is None
    assert known("test_spectral::test_spectral_unknown_affinity", "") is None
    assert all(each["reason"].endswith(".") for each in KNOWN)

"""Every claim: one cell of each arm runs, has its measures and can be drawn and judged."""

import inspect

import numpy as np
import pytest
from plotly.graph_objects import Figure

from limelight.experiment import catalog
from limelight.experiment.claim import Claim
from limelight.experiment.results import Record, Results
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.claims.brief import FEWER, cut_short

SEED = 4242  # a seed that is not judged
SLOW = (
    "active_memory", "autoencoders_and_generation", "classifier_generator", "convolution_hierarchy", "dynamic_weights",
    "metric_attention", "relevancy_screening", "transformer_parts", "translation_prior", "word_order",
)  # each trains for seconds, even cut short  # fmt: skip
TEN_RUNS = ("relevancy_screening",)  # trains the networks of ten seeds at once, for two minutes in all


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        *(pytest.param(name, False, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name in catalog.names()),
        *(
            pytest.param(name, True, id=f"{name}-whole", marks=pytest.mark.slow)
            for name in FEWER
            if name not in TEN_RUNS
        ),
    ],
)
def test_a_claim_runs_is_judged_and_drawn(name, whole, tmp_path, monkeypatch):
    claim = catalog.claim(name)
    if claim.missing():
        if whole:
            pytest.skip(claim.missing())
        pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[huggingface]'")
    claim = claim if whole else cut_short(name, monkeypatch)
    records = [run_trial(claim, arm, SEED, Store(tmp_path).folder) for arm in claim.arms]
    assert [(record.status, record.reason) for record in records] == [("done", "")] * len(claim.arms)
    results = Results(claim.arms, claim.measures, records)
    verdict = claim.verdict(results)
    assert verdict.outcome == "inconclusive"
    assert "Too few seeds" in verdict.sentence
    pictures = claim.figures(results)
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.caption.endswith(".")
        assert picture.figures
        assert all(isinstance(figure, Figure) and figure.data for figure in picture.figures)
        assert all(figure.layout.height for figure in picture.figures)


@pytest.mark.parametrize("name", catalog.names())
def test_a_claim_is_whole(name):
    claim = catalog.claim(name)
    assert isinstance(claim, Claim)
    assert claim.control in claim.arms
    assert list(claim.arms)[-1] == claim.control
    assert claim.question.endswith("?") or "?" in claim.question
    assert claim.source
    assert inspect.getdoc(inspect.getmodule(type(claim)))


def simulated(claim: Claim, good: float, bad: float, seeds: int = 10) -> Results:
    """Results in which the given arms differ by any amount."""
    rng = np.random.default_rng(0)

    def value(arm: str, measure: str) -> float:
        level = bad if arm == claim.control or claim.measures[measure].better == "neither" else good
        return float(abs(level + rng.normal(0, 1e-3)) + 1e-3)

    records = [
        Record(claim.name, arm, seed, "done", values={measure: value(arm, measure) for measure in claim.measures})
        for arm in claim.arms
        for seed in range(seeds)
    ]
    return Results(claim.arms, claim.measures, records)


@pytest.mark.parametrize("name", catalog.names())
def test_arms_that_do_the_same_support_nothing(name):
    """If all arms have equal results, the control does not fail, so no claim may be supported."""
    claim = catalog.claim(name)
    assert claim.verdict(simulated(claim, 0.5, 0.5)).outcome != "supported"


def test_an_arm_of_a_claim_is_known_by_its_name():
    claim = catalog.claim("slopes")
    with pytest.raises(LookupError, match="unknown arm of slopes 'gate of tens'; did you mean 'gate of ten'"):
        claim.require_arm("gate of tens")


def test_a_new_file_is_a_new_claim(tmp_path, monkeypatch):
    import limelight.claims

    (tmp_path / "zebra.py").write_text("from tests.experiment.toy import Toy\nclass Zebra(Toy):\n    name = 'zebra'\n")
    monkeypatch.setattr(limelight.claims, "__path__", [*limelight.claims.__path__, str(tmp_path)])
    assert catalog.names()[-1] == "zebra"
    assert catalog.claim("zebra").name == "zebra"
    (tmp_path / "yak.py").write_text("")
    with pytest.raises(TypeError, match="must define one subclass of Claim"):
        catalog.claim("yak")

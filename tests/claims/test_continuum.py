"""The claims on the continuum limit find the true limits, and detect broken mechanisms and limits."""

from itertools import pairwise

import numpy as np
import pytest

from limelight import Softmax, figures
from limelight.claims import conformal_metric, drift_diffusion, minimizer_step, singer_rates
from limelight.experiment.results import Record, Results
from limelight.report.orders import orders

SEEDS = range(2000, 2010)  # a seed that is not judged


def results(claim, seeds=SEEDS, arms=None):
    return Results(
        claim.arms,
        claim.measures,
        [
            Record(
                claim.name, arm, seed, "done", values=(found := claim.measure(arm, seed)).values, arrays=found.arrays
            )
            for arm in arms or claim.arms
            for seed in seeds
        ],
    )


def outcomes(verdict):
    return {part.description: part.outcome for part in verdict.parts}


@pytest.fixture(scope="module")
def drifts():
    return results(drift_diffusion.DriftDiffusion())


def test_the_drift_of_every_normalization_is_found(drifts):
    assert drift_diffusion.DriftDiffusion().verdict(drifts).outcome == "supported"
    found = {arm: drifts.summary(arm, "drift").estimate for arm in drifts.arms}
    assert found[drift_diffusion.ZERO] == pytest.approx(2, abs=0.02)
    assert found[drift_diffusion.SINKHORN] == pytest.approx(1, abs=0.02)
    assert found[drift_diffusion.LINE] == pytest.approx(0, abs=0.02)


def test_a_normalization_with_another_drift_is_noticed(drifts, monkeypatch):
    claim = drift_diffusion.DriftDiffusion()
    monkeypatch.setitem(drift_diffusion.ARMS, drift_diffusion.HALF, (Softmax(0.6), 0.5))
    broken = results(claim, arms=[drift_diffusion.HALF]).records
    others = [record for record in drifts.records if record.arm != drift_diffusion.HALF]
    verdict = claim.verdict(Results(claim.arms, claim.measures, [*broken, *others]))
    assert verdict.outcome == "mixed"
    assert {says for says, outcome in outcomes(verdict).items() if outcome != "holds"} == {
        "α = ½ drifts by 1 times ⟨∇log p, ∇h⟩, to 0.05",
        "the error of α = ½ falls with ε to the power of 1, to 0.15",
    }


def test_the_third_derivative_is_needed():
    claim = minimizer_step.MinimizerStep()
    found = results(claim)
    assert claim.verdict(found).outcome == "supported"
    assert found.summary(minimizer_step.PLAIN, "order").high < 0.15


def test_an_expectation_along_another_curve_is_noticed(monkeypatch):
    right = minimizer_step.of_a_set(2000)
    given = minimizer_step.given
    monkeypatch.setattr(minimizer_step, "given", lambda h, density, x: given(h, density, x + 0.05))
    assert right[-1] < 0.02 < minimizer_step.of_a_set(2000)[-1]


@pytest.mark.parametrize("arm", [singer_rates.CIRCLE, singer_rates.SPHERE, singer_rates.UNEVEN])
def test_bias_falls_with_the_bandwidth_where_the_density_is_uniform(arm):
    found = singer_rates.SingerRates().measure(arm, 2000).values
    assert found["bias"] == pytest.approx(0 if arm == singer_rates.UNEVEN else 1, abs=0.05)
    assert found["scatter in N"] == pytest.approx(-0.5, abs=0.15)
    assert found["scatter in ε"] == pytest.approx(singer_rates.predicted(arm), abs=0.15)


def test_a_step_is_heat_in_the_conformal_metric_but_in_dimension_two():
    claim = conformal_metric.ConformalMetric()
    three, two = (claim.measure(arm, 2000).values for arm in (conformal_metric.THREE, conformal_metric.TWO))
    assert three["order"] == pytest.approx(1, abs=0.15)
    assert three["identity"] < 1e-12
    assert two["order"] < 0.5
    assert two["identity"] > 0.05


@pytest.mark.parametrize("exponent", [-3.0, 0.0, 1.0, 8.0])
def test_no_exponent_serves_in_dimension_two(exponent):
    setting = conformal_metric.Setting(2, exponent, 80, np.array([0.1]), 0.7)
    density, wave, x, _ = conformal_metric.drawn(setting, 2000)
    heat = conformal_metric.heat_of(setting, density, wave, x)
    assert conformal_metric.relative(heat, wave.laplacian(x)) < 1e-12


def test_heat_on_a_sphere_has_a_frame_for_each_time():
    points = np.random.default_rng(0).normal(size=(5, 3))
    figure = figures.animated_scatter(points, np.arange(15.0).reshape(3, 5), ["0", "1", "2"], "heat", "steps")
    assert [frame.name for frame in figure.frames] == ["0", "1", "2"]
    assert [step.args[0][0] for step in figure.layout.sliders[0].steps] == ["0", "1", "2"]
    assert list(figure.frames[2].data[0].marker.color) == [10, 11, 12, 13, 14]
    assert (figure.data[0].marker.cmin, figure.data[0].marker.cmax) == (0, 14)
    with pytest.raises(ValueError, match=r"values \(2, n\)"):
        figures.animated_scatter(points, np.zeros((3, 5)), ["0", "1"], "heat", "steps")


def test_heat_on_a_sphere_evens_out():
    figure = singer_rates.heat_on_a_sphere(2000)
    spreads = [np.std(frame.data[0].marker.color) for frame in figure.frames]
    assert all(after < before for before, after in pairwise(spreads))


def test_orders_are_written_beside_the_prediction():
    at = [1.0, 0.5, 0.25]
    errors = np.array([[8.0, 4.0, 2.0], [4.0, 2.0, 1.0]])
    figure = orders({"first": errors, "none": np.empty((0, 3))}, {"first": at}, {"first": 2.0}, "ε", "error")
    told = {trace.name: trace for trace in figure.data if trace.showlegend is not False}
    assert set(told) == {"first: slope 1.00 (1.00 to 1.00)", "predicted slope"}
    theory = np.log(told["predicted slope"].y)
    assert np.polyfit(np.log(at), theory, 1)[0] == pytest.approx(2)


def test_arrows_point_along_the_field():
    at, field = np.array([[1.0, 1.0], [2.0, 1.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
    figure = figures.drift((np.arange(3.0), np.arange(3.0)), np.ones((3, 3)), at, field, ("x", "y"), longest=2.0)
    x, y = (np.array(part).reshape(2, 6) for part in (figure.data[1].x, figure.data[1].y))
    np.testing.assert_allclose(np.stack([x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]], -1), [[0.4, 0], [0, 0.2]], atol=1e-12)
    assert (x[0, [2, 4]] < x[0, 1]).all()

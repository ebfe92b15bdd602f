"""A learned metric, compared with neighborhood components analysis with neighbors, and with a fixed metric."""

import numpy as np
import pytest
import torch
from sklearn import datasets, neighbors
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from limelight import InputError
from limelight.classical.metric import MetricKernelClassifier, MetricKernelRegressor
from limelight.classical.regression import KernelRegressor

BOTH = [MetricKernelClassifier, MetricKernelRegressor]
REAL = {
    "iris": (scale(datasets.load_iris().data), datasets.load_iris().target),
    "wine": (scale(datasets.load_wine().data), datasets.load_wine().target),
}


@pytest.mark.parametrize("kind", BOTH)
def test_passes_scikit_learns_checks(kind):
    check_estimator(kind(max_iter=4), on_skip=None)


@pytest.mark.parametrize("name", REAL)
def test_classifies_as_well_as_neighborhood_components_with_neighbors(name):
    X, y = REAL[name]
    halves = [(slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))]
    components = neighbors.NeighborhoodComponentsAnalysis(random_state=0)
    peer = make_pipeline(components, neighbors.KNeighborsClassifier())
    ours, theirs = (
        np.mean([model.fit(X[known], y[known]).score(X[asked], y[asked]) for known, asked in halves])
        for model in (MetricKernelClassifier(), peer)
    )
    assert ours >= theirs - 0.04
    assert ours > 0.9


def test_predicts_by_the_published_equation():
    X, y = REAL["iris"]
    model = MetricKernelClassifier(max_iter=5).fit(X[::2], y[::2])
    phi = model.phi_.weight.numpy()
    W = np.exp(-(euclidean_distances(X[1::2] @ phi.T, X[::2] @ phi.T) ** 2))
    shares = W @ (y[::2, None] == np.unique(y)) / W.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X[1::2]), shares, atol=1e-10)


def test_learns_which_feature_matters():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(200, 4))
    y = np.sin(2 * X[:, 0])
    learned = MetricKernelRegressor().fit(X[:100], y[:100])
    assert learned.score(X[100:], y[100:]) > KernelRegressor().fit(X[:100], y[:100]).score(X[100:], y[100:]) + 0.3
    weight = learned.phi_.weight.norm(dim=0)
    assert (weight[0] > 2 * weight[1:]).all()


def test_any_module_may_be_given_and_is_left_as_it_was():
    X, y = REAL["iris"]
    phi = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    before = [each.clone() for each in phi.parameters()]
    model = MetricKernelClassifier(phi).fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.9
    assert all(torch.equal(a, b) for a, b in zip(before, phi.parameters(), strict=True))
    assert model.phi_ is not phi


@pytest.mark.parametrize("kind", BOTH)
def test_float32_answers_in_float32(kind):
    X, y = (x.astype("f4") for x in REAL["iris"])
    model = kind(max_iter=3).fit(X, y)
    answer = model.predict(X) if kind is MetricKernelRegressor else model.predict_proba(X)
    assert answer.dtype == np.float32


def test_constant_targets_and_coinciding_points_are_predicted_as_they_are():
    model = MetricKernelRegressor().fit([[1.0, 2.0]] * 4, [3.0] * 4)
    np.testing.assert_allclose(model.predict([[5.0, 5.0]]), 3)


@pytest.mark.parametrize("kind", BOTH)
def test_refuses_a_single_point_and_an_invalid_module(kind):
    with pytest.raises(InputError, match="expects two or more; got n_samples = 1"):
        kind().fit([[1.0]], [1])
    with pytest.raises(InputError, match=r"phi=…\) expects a torch module"):
        kind("linear").fit(*REAL["iris"])
    with pytest.raises(InputError, match=r"max_iter=…\) expects a whole number"):
        kind(max_iter=0).fit(*REAL["iris"])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        kind().fit([[0.0], [np.nan]], [0, 1])


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("unit", [2.0**-30, 2.0**-300, 2.0**20])
def test_nothing_depends_on_the_unit(kind, unit):
    X, y = REAL["iris"]
    plain, scaled = (kind(max_iter=3).fit(u * X, y).predict(u * X) for u in (1.0, unit))
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_autocast_and_inference_mode_change_nothing(kind):
    X, y = REAL["iris"]
    plain = kind(max_iter=3).fit(X, y).predict(X)
    with torch.autocast("cpu"), torch.inference_mode():
        np.testing.assert_array_equal(kind(max_iter=3).fit(X, y).predict(X), plain)

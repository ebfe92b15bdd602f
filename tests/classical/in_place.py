"""A plugin of pytest that puts Limelight's estimators where scikit-learn's own tests look for scikit-learn's.

`pytest -p tests.classical.in_place --pyargs sklearn.cluster.tests.test_mean_shift` runs those tests on them. Each class
here takes scikit-learn's parameters, hands on those that Limelight has under whatever name, and refuses the others by
name unless they have their default. What failed is written as JSON to the file named by the variable OUTCOMES.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import sklearn.cluster
import sklearn.manifold
import sklearn.semi_supervised
from sklearn.cluster import estimate_bandwidth
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import _label_propagation

from limelight import classical

THEIR_SPREADING = _label_propagation.LabelSpreading
FAILED: dict[str, str] = {}


class NotOfferedError(TypeError):
    """A parameter that Limelight's estimator does not have, with another value than its default."""


def taken(given, offered, ignored=(), **defaults):
    """The supported parameters; raises for others, unless they have no effect or their default value."""
    for name, value in given.items():
        if name in offered or name in ignored or (name in defaults and (value is None or value == defaults[name])):
            continue
        raise NotOfferedError(f"{name}={value!r} is not offered")
    return {name: value for name, value in given.items() if name in offered}


class MeanShift(classical.MeanShift):
    """A ball of radius R smooths like a Gaussian of standard deviation R/√(d + 2)."""

    def __init__(self, **given):
        defaults = {"seeds": None, "bin_seeding": False, "min_bin_freq": 1, "cluster_all": True}
        super().__init__(**taken(given, ("max_iter",), ("n_jobs", "bandwidth"), **defaults))
        self.radius = given.get("bandwidth")

    def fit(self, X, y=None):
        radius = estimate_bandwidth(X) if self.radius is None else self.radius
        self.bandwidth = radius / (X.shape[1] + 2) ** 0.5 or None
        return super().fit(X)


class LabelSpreading(classical.LabelSpreading):
    def __init__(self, **given):
        super().__init__(
            **taken(given, ("gamma", "alpha", "max_iter", "tol"), ("n_jobs",), kernel="rbf", n_neighbors=7)
        )

    def _build_graph(self):
        """S as scikit-learn has it, which its tests solve for the closed form."""
        theirs = THEIR_SPREADING(gamma=self.gamma)
        theirs.X_, theirs.y = self._X.numpy(), None
        return theirs._build_graph()


class Graph:
    """The graphs of scikit-learn's other affinities, handed to Limelight's as weights."""

    def fit(self, X, y=None):
        asked, self.affinity_matrix_ = self.affinity, self._weights(X)
        if asked == "rbf":
            return super().fit(X)
        self.affinity = "precomputed"
        try:
            return super().fit(self.affinity_matrix_)
        finally:
            self.affinity = asked

    def _weights(self, X):
        if callable(self.affinity):
            return self.affinity(X)
        if self.affinity == "rbf":
            return rbf_kernel(X, gamma=1 / X.shape[1] if self.gamma is None else self.gamma)
        if self.affinity == "precomputed":
            return X
        n = self.n_neighbors or max(len(X) // 10, 1)
        metric = {"metric": "precomputed"} if self.affinity == "precomputed_nearest_neighbors" else {}
        near = NearestNeighbors(n_neighbors=n, **metric).fit(X).kneighbors_graph(X)
        return (near + near.T) / 2


class SpectralClustering(Graph, classical.SpectralClustering):
    def __init__(self, n_clusters=8, **given):
        offered = ("gamma", "n_init", "random_state", "affinity")
        ignored = ("n_jobs", "eigen_solver", "eigen_tol", "n_neighbors")
        defaults = {"n_components": n_clusters, "assign_labels": "kmeans", "verbose": False}
        super().__init__(n_clusters, **taken(given, offered, ignored, **defaults))
        self.n_neighbors, self.eigen_solver = given.get("n_neighbors", 10), given.get("eigen_solver")
        self.assign_labels = "kmeans"


class SpectralEmbedding(Graph, classical.SpectralEmbedding):
    def __init__(self, n_components=2, **given):
        ignored = ("n_jobs", "eigen_solver", "eigen_tol", "random_state", "n_neighbors")
        given = {"affinity": "nearest_neighbors", **given}
        super().__init__(n_components, **taken(given, ("gamma", "affinity"), ignored))
        self.n_neighbors = given.get("n_neighbors")


def pytest_configure():
    sklearn.cluster.MeanShift = MeanShift
    sklearn.cluster.SpectralClustering = SpectralClustering
    sklearn.manifold.SpectralEmbedding = SpectralEmbedding
    sklearn.semi_supervised.LabelSpreading = _label_propagation.LabelSpreading = LabelSpreading


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        told = str(call.excinfo.value).splitlines() or [""]
        FAILED[f"{item.path.stem}::{item.name}"] = told[0]
    return report


def pytest_sessionfinish(session):
    told = {"collected": session.testscollected, "failed": FAILED}
    Path(os.environ["OUTCOMES"]).write_text(json.dumps(told), encoding="utf-8")

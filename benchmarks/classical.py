"""Time and memory of classical methods compared with scikit-learn: `python -m benchmarks.classical`

Both take turns in each round. Times are ratios of neighboring runs, and peak memory is the growth of a fresh process.
Quality is the adjusted Rand index, the accuracy, or the difference of the results. With `--json` the times are written,
too: docs/speed.py takes those of graphs and of many clusters (`--only graph "20 clusters"`).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn import cluster, datasets, manifold, metrics, semi_supervised
from sklearn.neighbors import kneighbors_graph
from threadpoolctl import threadpool_limits

from benchmarks.measure import Job, Ratio, neighbors, peak_bytes, seconds
from limelight import Attention, Euclidean
from limelight.classical.labels import LabelSpreading
from limelight.classical.modes import MeanShift
from limelight.classical.regression import KernelRegressor
from limelight.classical.spectral import DiffusionMaps, SpectralClustering, SpectralEmbedding

_MIB = 2**20
_SECONDS, _ROUNDS = 3.0, 60  # a short case runs in more rounds, for so many seconds or in so many rounds


@dataclass(frozen=True)
class Method:
    """Two ways to compute the same. `ours` and `theirs` build a job; `quality` rates the result of such a job."""

    name: str
    beside: str
    ours: Callable[[], Job]
    theirs: Callable[[], Job]
    quality: Callable[[Any], str]
    faster: float  # target: their time divided by ours is at least this
    memory: float | None = None  # target: ours takes at most so many MiB


def _blobs(n: int) -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_blobs(n, centers=6, random_state=0)


def _moons(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X, y = datasets.make_moons(n, noise=0.1, random_state=0)
    known = np.where(np.random.default_rng(0).random(n) < 0.01, y, -1)
    known[:20] = y[:20]
    return X, y, known


def _mean_shift(ours: bool, n: int) -> Job:
    X, _ = _blobs(n)
    radius = cluster.estimate_bandwidth(X, quantile=0.1, n_samples=1000, random_state=0)
    smooth = np.sqrt(X.shape[1] + 2)
    # A point stops by scikit-learn's rule, when a step is shorter than R/1000.
    model = MeanShift(radius / smooth, tol=1e-3 * smooth) if ours else cluster.MeanShift(bandwidth=radius)
    return lambda: model.fit(X).labels_


def _spreading(ours: bool, n: int) -> Job:
    X, _, known = _moons(n)
    model = LabelSpreading() if ours else semi_supervised.LabelSpreading()
    return lambda: model.fit(X, known).transduction_


def _embedding(ours: bool, n: int) -> Job:
    X, _, _ = _moons(n)
    theirs = manifold.SpectralEmbedding(2, affinity="rbf", gamma=5, random_state=0)
    model = SpectralEmbedding(2, gamma=5) if ours else theirs
    return lambda: model.fit_transform(X)


def _clustering(ours: bool, n: int) -> Job:
    X, _ = _blobs(n)
    model = (SpectralClustering if ours else cluster.SpectralClustering)(6, gamma=1.0, random_state=0)
    return lambda: model.fit(X).labels_


def _graph(X: np.ndarray) -> csr_array:
    """Each point joined to its ten nearest neighbors, as a sparse matrix."""
    W = kneighbors_graph(X, 10)
    return csr_array((W + W.T) / 2)


def _digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = datasets.load_digits(return_X_y=True)
    return X[:n], y[:n]


def _twenty(n: int) -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_blobs(n, centers=20, random_state=0)


def _graph_embedding(ours: bool, n: int) -> Job:
    W = _graph(_moons(n)[0])
    theirs = manifold.SpectralEmbedding(2, affinity="precomputed", random_state=0)
    model = SpectralEmbedding(2, affinity="precomputed") if ours else theirs
    return lambda: model.fit_transform(W)


def _clustering_of(data: Callable[[int], Any], clusters: int, sparse: bool, ours: bool, n: int) -> Job:
    X = _graph(data(n)[0]) if sparse else data(n)[0]
    kind = SpectralClustering if ours else cluster.SpectralClustering
    model = kind(clusters, affinity="precomputed" if sparse else "rbf", random_state=0)
    return lambda: model.fit(X).labels_


def _rand_of(data: Callable[[int], Any], n: int, labels: np.ndarray) -> str:
    return f"ARI {metrics.adjusted_rand_score(data(n)[1], labels):.3f}"


def _smoothing(ours: bool, n: int) -> Job:
    """Compared with the published equation with scikit-learn's kernel, since scikit-learn lacks the method."""
    generator = np.random.default_rng(0)
    X, Q = generator.normal(size=(n, 16)), generator.normal(size=(n, 16))
    y = np.sin(X).sum(1)
    model = KernelRegressor(2.0).fit(X, y)

    def written() -> np.ndarray:
        W = metrics.pairwise.rbf_kernel(Q, X, gamma=1 / 8)
        mean: np.ndarray = W @ y / W.sum(1)
        return mean

    return (lambda: model.predict(Q)) if ours else written


def _rand(n: int, labels: np.ndarray) -> str:
    return f"ARI {metrics.adjusted_rand_score(_blobs(n)[1], labels):.3f}"


def _accuracy(n: int, labels: np.ndarray) -> str:
    return f"accuracy {(labels == _moons(n)[1]).mean():.4f}"


def _largest(n: int, found: np.ndarray) -> str:
    return f"{np.abs(found).max():.6g}"


def _beside(
    name: str,
    build: Callable[[bool, int], Job],
    quality: Callable[[int, Any], str],
    sizes: dict[int, float],
    beside: str = "scikit-learn",
) -> list[Method]:
    """A method at some numbers of points, with the target for how many times faster it is at each."""
    return [
        Method(
            f"{name}, n = {n:,}", beside, partial(build, True, n), partial(build, False, n), partial(quality, n), faster
        )
        for n, faster in sizes.items()
    ]


def _surface() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X, Q = (generator.normal(size=(n, 16)).astype(np.float32) for n in (50_000, 10_000))
    return X, np.sin(X).sum(1), Q


def _regression() -> Job:
    X, y, Q = _surface()
    model = KernelRegressor(2.0).fit(X, y)
    return lambda: model.predict(Q)


def _fused_kernel() -> Job:
    """The fused kernel alone, with the same numbers of queries, keys and values."""
    X, _, Q = (torch.from_numpy(x) for x in _surface())
    q, k = Q[None, None], X[None, None]
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k, scale=0.25)


def _apart(found: Any) -> str:
    if isinstance(found, torch.Tensor):
        return "–"
    X, y, Q = _surface()
    squares = ((Q[:50, None].astype(np.float64) - X[None]) ** 2).sum(-1)
    weights = np.exp(-squares / 8)
    return f"off by {np.abs(found[:50] - weights @ y / weights.sum(1)).max():.0e} of the equation"


def _diffusion() -> Job:
    X, _, _ = _moons(20_000)
    return lambda: DiffusionMaps(2, bandwidth=0.5).fit(X).eigenvalues_


def _product() -> Job:
    """One application of the operator. Computing the eigenvectors takes some dozens of them."""
    X = torch.from_numpy(_moons(20_000)[0])
    A = Attention(X, X, Euclidean(0.5))
    return lambda: A @ X[:, :1]


def _leading(found: Any) -> str:
    return "–" if isinstance(found, torch.Tensor) else f"eigenvalues {found[0]:.4f}, {found[1]:.4f}"


_LEAST = 1 / 1.2  # target for small problems: at least this share of the other's speed

METHODS = [
    *_beside("mean shift", _mean_shift, _rand, {200: 4, 1_000: 4, 5_000: 4}),
    *_beside("label spreading", _spreading, _accuracy, {200: _LEAST, 2_000: _LEAST, 10_000: 3}),
    *_beside("spectral embedding", _embedding, _largest, {200: _LEAST, 1_000: _LEAST, 4_000: 2}),
    *_beside("spectral clustering", _clustering, _rand, {200: _LEAST, 1_000: _LEAST, 4_000: 2}),
    *_beside(
        "sparse graph of moons, embedding", _graph_embedding, _largest, dict.fromkeys([300, 1_000, 5_000], _LEAST)
    ),
    *_beside(
        "sparse graph of moons, 2 clusters",
        partial(_clustering_of, _moons, 2, True),
        partial(_rand_of, _moons),
        dict.fromkeys([300, 1_000, 1_900, 5_000, 20_000], _LEAST),
    ),
    *_beside(
        "sparse graph of digits, 10 clusters",
        partial(_clustering_of, _digits, 10, True),
        partial(_rand_of, _digits),
        dict.fromkeys([500, 1_797], _LEAST),
    ),
    *_beside(
        "sparse graph of blobs, 20 clusters",
        partial(_clustering_of, _twenty, 20, True),
        partial(_rand_of, _twenty),
        dict.fromkeys([2_000], _LEAST),
    ),
    *_beside(
        "blobs, 20 clusters",
        partial(_clustering_of, _twenty, 20, False),
        partial(_rand_of, _twenty),
        dict.fromkeys([500, 1_000, 1_500, 2_000], _LEAST),
    ),
    *_beside(
        "kernel regression", _smoothing, _largest, {200: _LEAST, 2_000: _LEAST, 10_000: 2}, "rbf_kernel(Q, X) @ y"
    ),
    Method("kernel regression, 50,000 × 10,000", "fused kernel", _regression, _fused_kernel, _apart, 1 / 1.5),
    Method("diffusion maps, n = 20,000", "a product with P", _diffusion, _product, _leading, 1 / 40, 300),
]


@dataclass
class Row:
    """The times of one method: how many times faster it is than the other, and the milliseconds of both."""

    name: str
    beside: str
    target: float
    ratio: Ratio
    milliseconds: float
    milliseconds_beside: float


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", "Graph is not fully connected")
    chosen = [method for method in METHODS if not options.only or any(part in method.name for part in options.only)]
    if not chosen:
        raise SystemExit(
            f"no method is called {options.only}; they are: {'; '.join(method.name for method in METHODS)}"
        )
    print(f"{'method':46} {'beside':20} {'times faster':>22} {'target':>8} {'MiB':>6} {'theirs':>7}  quality")
    rows = []
    with threadpool_limits(options.threads):
        for method in chosen:
            rows.append(_measured(method, options.rounds))
            print(_line(method, rows[-1]), flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        results = {"classical": {str(options.threads): [asdict(row) for row in rows]}}
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _measured(method: Method, rounds: int) -> Row:
    ours, theirs = method.ours(), method.theirs()
    ours(), theirs()
    rounds = max(rounds, min(_ROUNDS, int(_SECONDS / (seconds(ours, "cpu") + seconds(theirs, "cpu")))))
    times = [neighbors(theirs, [ours], "cpu")[0] for _ in range(rounds)]
    ratio = Ratio.of([their / our for our, their in times])
    mine, other = (1e3 * float(np.median(each)) for each in zip(*times, strict=True))
    return Row(method.name, method.beside, method.faster, ratio, mine, other)


def _line(method: Method, row: Row) -> str:
    quality = f"{method.quality(method.ours()())} beside {method.quality(method.theirs()())}"
    mine, other = (peak_bytes(build, "cpu") / _MIB for build in (method.ours, method.theirs))
    fast = "✓" if row.ratio.median >= method.faster else "✗"
    small = "" if method.memory is None else f" {'✓' if mine <= method.memory else '✗'} of {method.memory:.0f}"
    spread = f"{row.ratio.median:.2f} ({row.ratio.low:.2f}–{row.ratio.high:.2f})"
    return (
        f"{method.name:46} {method.beside:20} {spread:>22} {f'{fast} {method.faster:.3g}':>8} "
        f"{mine:6.0f}{small} {other:7.0f}  {quality}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="the least number of rounds; the table has medians and quartiles over them",
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of torch and of BLAS")
    parser.add_argument("--only", nargs="+", help="methods whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where the times are written")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Classical methods as attention, with scikit-learn's interface and memory linear in the number of points.

Each estimator is a few lines on `Attention`, and equals scikit-learn's, or the published equation if scikit-learn
lacks the method. `docs/methods.md` compares the methods: what each initializes, strengthens, normalizes and
propagates. Needs the extra `classical`.

k-means, k nearest neighbors and label propagation are attention too, and are in that table and in the claim
`same_operator`. scikit-learn's own estimators of them are faster, so use those.
"""

from limelight.errors import MissingExtraError, how_to_install

try:
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(
        f"limelight.classical needs {missing.name}, which is not installed; {how_to_install('classical')}"
    ) from missing

from limelight.classical.clusters import FuzzyCMeans, LogDistance, SoftKMeans
from limelight.classical.flow import MarkovClustering
from limelight.classical.labels import LabelSpreading
from limelight.classical.metric import MetricKernelClassifier, MetricKernelRegressor
from limelight.classical.modes import BlurringMeanShift, MeanShift
from limelight.classical.regression import KernelClassifier, KernelRegressor
from limelight.classical.spectral import DiffusionMaps, SpectralClustering, SpectralEmbedding

__all__ = [
    "BlurringMeanShift",
    "DiffusionMaps",
    "FuzzyCMeans",
    "KernelClassifier",
    "KernelRegressor",
    "LabelSpreading",
    "LogDistance",
    "MarkovClustering",
    "MeanShift",
    "MetricKernelClassifier",
    "MetricKernelRegressor",
    "SoftKMeans",
    "SpectralClustering",
    "SpectralEmbedding",
]

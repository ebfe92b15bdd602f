"""Classical methods on the one operator: scikit-learn's interface, memory linear in the points.

Each estimator is a few lines on `Attention`, and equals scikit-learn's, or the published equation where
scikit-learn has none. `docs/methods.md` sets them side by side: what is initialized, strengthened,
normalized and propagated. Needs the extra `classical`.

k-means, k nearest neighbors and label propagation are attention too, and stand in that table and in the claim
`same_operator`; but scikit-learn's own estimators of them are faster, so take those.
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

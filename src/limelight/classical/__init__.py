"""Classical methods on the one operator: scikit-learn's interface, memory linear in the points.

Each estimator is a few lines on `Attention`, and equals scikit-learn's, or the published equation where
scikit-learn has none. `docs/methods.md` sets them side by side: what is initialised, strengthened,
normalised and propagated. Needs the extra `classical`.
"""

from limelight.errors import MissingExtraError, how_to_install

try:
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(
        f"limelight.classical needs {missing.name}, which is not installed; {how_to_install('classical')}"
    ) from missing

from limelight.classical.clusters import FuzzyCMeans, KMeans, LogDistance, SoftKMeans
from limelight.classical.flow import MarkovClustering
from limelight.classical.labels import LabelPropagation, LabelSpreading
from limelight.classical.metric import MetricKernelClassifier, MetricKernelRegressor
from limelight.classical.modes import BlurringMeanShift, MeanShift
from limelight.classical.neighbours import KNeighborsClassifier, KNeighborsRegressor
from limelight.classical.regression import KernelClassifier, KernelRegressor
from limelight.classical.spectral import DiffusionMaps, SpectralClustering, SpectralEmbedding

__all__ = [
    "BlurringMeanShift",
    "DiffusionMaps",
    "FuzzyCMeans",
    "KMeans",
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "KernelClassifier",
    "KernelRegressor",
    "LabelPropagation",
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

"""Limelight: a laboratory for attention, a linear operator that is never stored."""

from limelight.attend import attend
from limelight.attention import Attention
from limelight.errors import (
    ClusterError,
    DeviceError,
    DivergenceError,
    DtypeError,
    InputError,
    KernelError,
    LimelightError,
    MissingExtraError,
    StoreError,
    UnknownNameError,
)
from limelight.mask import Boolean, Mask, causal, padding, window
from limelight.normalisation import Normalisation, Sinkhorn, Softmax
from limelight.similarity import Cosine, Dot, Euclidean, Metric, Similarity

__version__ = "0.1.0"
__all__ = [
    "Attention",
    "Boolean",
    "ClusterError",
    "Cosine",
    "DeviceError",
    "DivergenceError",
    "Dot",
    "DtypeError",
    "Euclidean",
    "InputError",
    "KernelError",
    "LimelightError",
    "Mask",
    "Metric",
    "MissingExtraError",
    "Normalisation",
    "Similarity",
    "Sinkhorn",
    "Softmax",
    "StoreError",
    "UnknownNameError",
    "__version__",
    "attend",
    "causal",
    "padding",
    "window",
]

"""Normalizations, which turn scores into weights."""

from limelight.normalization.base_normalization import KeyBiased, Normalization, RowWise
from limelight.normalization.scalable import ScalableSoftmax
from limelight.normalization.sink import SoftmaxWithSink
from limelight.normalization.softmax import Hybrid, LearnedSoftmax, Sinkhorn, Softmax
from limelight.normalization.sparse import Entmax, Sigmoid, Sparsemax, TopK
from limelight.normalization.symmetric import SymmetricSinkhorn

__all__ = [
    "Entmax",
    "Hybrid",
    "KeyBiased",
    "LearnedSoftmax",
    "Normalization",
    "RowWise",
    "ScalableSoftmax",
    "Sigmoid",
    "Sinkhorn",
    "Softmax",
    "SoftmaxWithSink",
    "Sparsemax",
    "SymmetricSinkhorn",
    "TopK",
]

"""How do scores become weights?"""

from limelight.normalization.base import Normalization
from limelight.normalization.softmax import Hybrid, LearnedSoftmax, Sinkhorn, Softmax
from limelight.normalization.sparse import Entmax, Sigmoid, Sparsemax, TopK
from limelight.normalization.symmetric import SymmetricSinkhorn

__all__ = [
    "Entmax",
    "Hybrid",
    "LearnedSoftmax",
    "Normalization",
    "Sigmoid",
    "Sinkhorn",
    "Softmax",
    "Sparsemax",
    "SymmetricSinkhorn",
    "TopK",
]

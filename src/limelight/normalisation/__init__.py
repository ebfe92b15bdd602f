"""How do scores become weights?"""

from limelight.normalisation.base import Normalisation
from limelight.normalisation.softmax import Hybrid, LearnedSoftmax, Sinkhorn, Softmax
from limelight.normalisation.sparse import Entmax, Sigmoid, Sparsemax, TopK
from limelight.normalisation.symmetric import SymmetricSinkhorn

__all__ = [
    "Entmax",
    "Hybrid",
    "LearnedSoftmax",
    "Normalisation",
    "Sigmoid",
    "Sinkhorn",
    "Softmax",
    "Sparsemax",
    "SymmetricSinkhorn",
    "TopK",
]

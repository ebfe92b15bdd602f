"""Similarities β(q, k) of a query and a key: one class for each, with its equation, its source and its properties."""

from limelight.similarity.additive import GAT, Additive
from limelight.similarity.base_similarity import Properties, Similarity, Sum, checked_dense
from limelight.similarity.distance import Euclidean, Laplacian, Metric, StudentT
from limelight.similarity.forgetting import Forgetting
from limelight.similarity.forms import InnerProduct, KeyFactors, Parts, as_one_product
from limelight.similarity.inner import Alignment, Bilinear, Cosine, Dot
from limelight.similarity.position import ALiBi, Bias, Convolution, Positional, RelativeBias
from limelight.similarity.scaled import Scaled, unscaled
from limelight.similarity.softcap import SoftCap
from limelight.similarity.tensors import (
    are_finite,
    center,
    is_finite,
    is_wide,
    shift_for_precision,
    squeeze_head,
    upcast,
    upcast_pair,
)

__all__ = [
    "GAT",
    "ALiBi",
    "Additive",
    "Alignment",
    "Bias",
    "Bilinear",
    "Convolution",
    "Cosine",
    "Dot",
    "Euclidean",
    "Forgetting",
    "InnerProduct",
    "KeyFactors",
    "Laplacian",
    "Metric",
    "Parts",
    "Positional",
    "Properties",
    "RelativeBias",
    "Scaled",
    "Similarity",
    "SoftCap",
    "StudentT",
    "Sum",
    "are_finite",
    "as_one_product",
    "center",
    "checked_dense",
    "is_finite",
    "is_wide",
    "shift_for_precision",
    "squeeze_head",
    "unscaled",
    "upcast",
    "upcast_pair",
]

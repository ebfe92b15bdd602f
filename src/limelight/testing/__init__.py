"""Checks that a similarity, a normalization or a mask of your own keeps its contract: one call for each.

    check_similarity(MySimilarity(), d=4)

Each check compares what an extension says in several ways (its definition, its inner-product form, its parts of a
rectangle) and what the kernels make of it, forward and backward, in float64 and in half precision. The first
disagreement raises `ContractError`, an `AssertionError`, which says what was expected and what came.
"""

from limelight.testing.mask import check_mask
from limelight.testing.normalization import check_normalization
from limelight.testing.similarity import check_similarity

__all__ = ["check_mask", "check_normalization", "check_similarity"]

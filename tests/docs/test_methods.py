"""The table of methods as attention is written from the operators themselves."""

import importlib.util
from pathlib import Path

import pytest
import torch


def _page():
    spec = importlib.util.spec_from_file_location("methods_page", Path(__file__).parents[2] / "docs" / "methods.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


METHODS = _page()
POINTS = torch.randn(12, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_table_is_generated():
    written = METHODS.PAGE.read_text(encoding="utf-8")
    assert written == METHODS.page(METHODS.METHODS), "run `python docs/methods.py`"


@pytest.mark.parametrize("method", METHODS.METHODS, ids=lambda method: method.name)
def test_the_operator_of_each_method_in_the_table_is_one(method):
    A = method.operator(POINTS)
    assert 12 in A.shape
    sums = A @ torch.ones(A.shape[1], 1).double()
    if method.name == "Attention with sinks":
        assert ((sums > 0) & (sums < 1)).all()
    else:
        right = 0.8 if method.name == "Differential attention" else 1.0
        torch.testing.assert_close(sums, torch.full_like(sums, right))
    assert f"`{METHODS.written(A)}`" in method.row(POINTS)


def test_the_table_has_the_methods_that_the_paper_recasts():
    names = " ".join(method.name for method in METHODS.METHODS)
    for name in (
        "attention",
        "GAT",
        "Metric attention",
        "MDS",
        "Isomap",
        "LLE",
        "Laplacian eigenmaps",
        "Diffusion maps",
        "SNE",
        "t-SNE",
        "UMAP",
        "k-means",
        "Fuzzy c-means",
        "Markov clustering",
        "k nearest",
        "SVM",
        "GCN",
    ):
        assert name in names

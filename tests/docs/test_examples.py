"""Every public class and function has an example in its docstring, and the examples run as printed."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import torch

import limelight
import limelight.continuum
import limelight.distributed
import limelight.nn
from limelight import mask, normalization, propagation, similarity
from limelight.errors import LimelightError
from limelight.experiment import catalog, claim, measure, results, runner, statistics, verdict

# For authors of kernels or similarities, or shown in the example of the function that makes them.
WITHOUT = {
    "Parts", "InnerProduct", "Positional", "as_mask", "conjuncts", "edges_of", "real_keys",
    "split_additive", "as_one_product", "center", "checked_dense", "squeeze_head", "is_finite", "shift_for_precision",
    "upcast_pair", "upcast", "Interval", "Record", "Picture", "Trial", "missing", "run", "as_record", "check_workers",
    "spread_ratio", "are_finite", "KeyFactors", "is_wide", "unscaled", "Experiment",
}  # fmt: skip
SOURCE = Path(limelight.__file__).parent
MODULES = [
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")
]  # fmt: skip


def public():
    for package in (
        limelight,
        limelight.continuum,
        limelight.distributed,
        limelight.nn,
        mask,
        normalization,
        similarity,
    ):
        yield from ((name, getattr(package, name)) for name in package.__all__)
    for module in (propagation, statistics, verdict, results, measure, catalog, runner, claim):
        own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        yield from ((name, value) for name, value in own.items() if getattr(value, "__module__", "") == module.__name__)


def is_error(value):
    return inspect.isclass(value) and issubclass(value, LimelightError)


def test_everything_public_has_an_example():
    documented = {
        name: inspect.getdoc(value) for name, value in public()
        if not inspect.ismodule(value) and not is_error(value) and callable(value)
    }  # fmt: skip
    assert len(documented) > 60
    lacking = {name for name, doc in documented.items() if ">>>" not in (doc or "")} - WITHOUT
    assert not lacking


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if ".huggingface" in name else []) for name in MODULES]
)
def test_the_examples_of_a_module_run(name):
    if ".huggingface" in name:
        pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[huggingface]'")
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    told = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        torch.manual_seed(0)
        example.globs = {}  # each example runs separately, as for a reader
        runner.run(example, out=told.append)
    assert not runner.failures, "".join(told)

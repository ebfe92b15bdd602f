"""Deprecations inside other packages are counted and listed in a table; Limelight's own deprecated calls fail the test.

A plugin of pytest for environments in which packages of different ages meet (`make test-latest`, `make test-oldest`):
`PYTEST_PLUGINS=tests.deprecations`. Without it, as in `make test`, every warning is an error.

A warning is Limelight's own where Limelight or its tests made the call that is deprecated. The caller is

1. the frame that the warning names by its `stacklevel`;
2. where that is the very function that warns (it was given no `stacklevel`), the frame that called the function;
3. never a frame that only passes calls on, a decorator's or torch's `Module.__call__`: then it is the next one outside.
"""

import importlib.metadata
import inspect
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
OURS = {None, "limelight", "tests", "benchmarks", "docs", "examples", "notebook"}  # None and notebook: run by `exec`
PASSING = ("torch/nn/modules/module.py", "torch/_dynamo/eval_frame.py", "torch/autograd/function.py", "<@beartype")


def is_ours(frame) -> bool:
    """True if the frame's code belongs to Limelight, its tests or a document."""
    file = Path(frame.f_code.co_filename)
    if file.is_absolute():
        return file.is_relative_to(ROOT) and "site-packages" not in file.parts
    return package_of(frame) in OURS


def package_of(frame) -> str | None:
    """The package that the frame's module belongs to; None for code without a module."""
    return (frame.f_globals.get("__name__") or "").partition(".")[0] or None


def passes_on(frame) -> bool:
    """True for a closure that takes any arguments, as in a decorator, and for torch's functions that call others."""
    code, any_arguments = frame.f_code, inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    is_wrapper = code.co_freevars and code.co_flags & any_arguments == any_arguments
    return bool(is_wrapper) or any(part in code.co_filename for part in PASSING)


def past_passing(frame):
    """The frame, or the nearest outside it that does more than pass a call on."""
    while frame.f_back is not None and passes_on(frame):
        frame = frame.f_back
    return frame


def caller(frame, file: str):
    """The frame that made the deprecated call: `frame` called `warnings.warn`, and the warning names `file`."""
    warner, named = frame, frame
    while named is not None and named.f_code.co_filename != file:
        named = named.f_back
    if named in (None, warner) and any("warn" in name for name in warner.f_code.co_names) and warner.f_back:
        named = warner.f_back  # a function that warns of itself; C code warns in the name of the line that called it
    return past_passing(named or warner)


@contextmanager
def counted(found: Counter):
    """Within the block, deprecations in other packages are added to `found` as (package, text), own ones raised."""

    def show(message, category, filename, lineno, file=None, line=None):
        if not issubclass(category, KINDS):
            otherwise(message, category, filename, lineno, file, line)
            return
        frame = sys._getframe(1)
        while frame.f_code.co_filename == warnings.__file__:
            frame = frame.f_back
        blamed = caller(frame, filename)
        if is_ours(blamed):
            raise message
        found[package_of(blamed) or blamed.f_code.co_filename, " ".join(f"{category.__name__}: {message}".split())] += 1

    with warnings.catch_warnings():
        for kind in KINDS:
            warnings.simplefilter("always", kind)
        otherwise, warnings.showwarning = warnings.showwarning, show
        yield


def versions() -> dict[str, str]:
    """The version of each package that can be imported, by the name that is imported."""
    installed = importlib.metadata.packages_distributions()
    return {name: importlib.metadata.version(found[0]) for name, found in installed.items()}


FOUND: Counter = Counter()


@pytest.hookimpl(wrapper=True, trylast=True)  # inside pytest's own wrapper, which sets its filters
def pytest_load_initial_conftests():
    with counted(FOUND):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_collection():
    with counted(FOUND):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol():
    with counted(FOUND):
        return (yield)


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of xdist's workers, whose counts the controller adds up
        output["deprecations"] = [[*key, times] for key, times in FOUND.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    for package, text, times in getattr(node, "workeroutput", {}).get("deprecations", []):
        FOUND[package, text] += times


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("deprecations inside other packages")
    known = versions()
    for (package, text), times in sorted(FOUND.items()):
        terminalreporter.write_line(f"{package} {known.get(package, '')} | {times} × | {text[:300]}")
    if not FOUND:
        terminalreporter.write_line("none")

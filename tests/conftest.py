"""Shapes and dtypes in the signatures of everything behind the boundary are enforced while testing."""

import gc
import signal

import hypothesis
import pytest
import torch

from tests import checked

checked.install("limelight.kernels")

torch.set_num_threads(1)  # the tests run in one process for each core

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background job's, and so of all that is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("limelight", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("limelight")

gc.disable()  # until the tests have been collected: all that is imported and listed meanwhile stays


def pytest_collection_finish() -> None:
    """Leave what is there by now out of every later garbage collection, each of which would walk all of it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)

"""While testing, the shapes and dtypes in the signatures of internal functions are checked at each call."""

import gc
import signal

import hypothesis
import pytest
import torch

from tests import checked

checked.install("limelight.kernels")

torch.set_num_threads(1)  # the tests run in one process for each core

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("limelight", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("limelight")

gc.disable()  # until the tests are collected, since all imported and listed objects stay


def pytest_collection_finish() -> None:
    """Exclude all present objects from later garbage collections, each of which would search them."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)

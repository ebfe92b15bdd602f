"""While testing, the shapes and dtypes in the signatures of internal functions are checked at each call."""

import gc
import os
import signal

import hypothesis
import pytest
import torch

from tests import checked

checked.install("limelight.kernels")

torch.set_num_threads(1)  # the tests run in a process for each core, and one more

# The lab's workers lower their priority, so that a visitor's browser has the processor first. Here the tests would take
# it from them, and a page would wait ten times as long. At the lowest priority nothing is behind.
if hasattr(os, "nice"):
    os.nice(19)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile("limelight", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("limelight")

gc.disable()  # until the tests are collected, since all imported and listed objects stay


def pytest_collection_finish() -> None:
    """Exclude all present objects from later garbage collections, each of which would search them."""
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """The number of processes for `-n auto`: one more than cores, since a test that starts a program waits for it."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)

"""Load what workers need once, in the process that they are forked from: its memory is then shared by all of them.

The first picture of a lab should be seen soon, so modules that take seconds and that only training needs are loaded
after a delay: `torch._dynamo`, which an optimizer's first step imports, and what each page's `preload` adds. A first
visitor does not wait for them, and their worker loads them for itself. From the second on, a worker is forked only
when all is loaded, so that a class whose members arrive together shares it, too.

This process has one thread, and starts no other. A fork copies the calling thread only: a lock that another one holds
would stay locked in the copy, whose thread pools would wait for threads that do not exist. So it computes with one
thread, and does not call `backward`, for which torch starts a thread per GPU.
"""

import contextlib
import gc
import importlib
import os
import signal
from typing import Any

if hasattr(os, "nice"):
    os.nice(5)  # the server and the browser have priority
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read when NumPy and torch are imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import torch

from limelight.lab.address import read
from limelight.lab.pages import PAGES
from limelight.lab.simulation import load

_LEISURE = 8.0  # seconds, until the browser has drawn the first page
_SIMULATIONS = [(page, load(page.simulation)) for page in PAGES if page.simulation is not None]
torch.set_num_threads(1)


class _Rest:
    """The modules that are loaded later: after `_LEISURE` seconds, or before the second fork if that comes sooner."""

    def __init__(self) -> None:
        self._forks, self._is_loaded = 0, False

    def load(self, *_: Any) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True
        importlib.import_module("torch._dynamo")
        for page, simulation in _SIMULATIONS:
            with contextlib.suppress(Exception):  # the page's worker raises it again; other pages go on
                simulation.preload(read(page.fields, {})[0])
        gc.collect()

    def before_fork(self) -> None:
        self._forks += 1
        if self._forks > 1:
            self.load()
        gc.freeze()  # a collection in a worker would write to every object, and so copy the memory that holds it


_REST = _Rest()
if hasattr(signal, "setitimer"):
    # Not in a thread: a process that is forked while a thread holds a lock can deadlock.
    signal.signal(signal.SIGALRM, _REST.load)
    signal.setitimer(signal.ITIMER_REAL, _LEISURE)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_REST.before_fork)

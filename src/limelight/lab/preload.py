"""Load the modules that workers need once, in the process that they are forked from, half of them after a delay.

An optimizer's first step imports torch._dynamo, and the first figure imports modules that Plotly loads lazily. This
takes two seconds, so it waits until the browser has drawn the first page.
"""

import importlib
import os
import signal
from typing import Any

if hasattr(os, "nice"):
    os.nice(5)  # the server and the browser have priority

import torch

from limelight.lab.address import read
from limelight.lab.pages import PAGES
from limelight.lab.simulation import load

_LEISURE = 8.0  # seconds
_SIMULATIONS = [(page, load(page.simulation)) for page in PAGES if page.simulation is not None]
torch.set_num_threads(1)  # forking a process with several threads is unsafe


def _load_the_rest(*_: Any) -> None:
    importlib.import_module("torch._dynamo")
    for page, simulation in _SIMULATIONS[:2]:
        for figure in simulation(read(page.fields, {})[0]).figures().values():
            figure.to_json()


if hasattr(signal, "setitimer"):
    # Not in a thread: a process that is forked while a thread holds a lock can deadlock.
    signal.signal(signal.SIGALRM, _load_the_rest)
    signal.setitimer(signal.ITIMER_REAL, _LEISURE)

"""What workers need, loaded once in the process that they are forked from; half of it when a first page stands.

An optimizer's first step loads torch._dynamo, and a first picture what the libraries put off until they are used: two
seconds, which would be the browser's.
"""

import importlib
import os
import signal
from typing import Any

if hasattr(os, "nice"):
    os.nice(5)  # whoever answers the page, and the page itself, go first

import torch

from limelight.lab.address import read
from limelight.lab.pages import PAGES
from limelight.lab.simulation import load

_LEISURE = 8.0  # seconds
_SIMULATIONS = [(page, load(page.simulation)) for page in PAGES if page.simulation is not None]
torch.set_num_threads(1)  # a process with threads of its own is not to be forked


def _load_the_rest(*_: Any) -> None:
    importlib.import_module("torch._dynamo")
    for page, simulation in _SIMULATIONS[:2]:
        for figure in simulation(read(page.fields, {})[0]).figures().values():
            figure.to_json()


if hasattr(signal, "setitimer"):
    # Between two forks: a thread might hold a lock while there is one.
    signal.signal(signal.SIGALRM, _load_the_rest)
    signal.setitimer(signal.ITIMER_REAL, _LEISURE)

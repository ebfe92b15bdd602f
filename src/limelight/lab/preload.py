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
from limelight.lab.live import bias, operator, slopes  # noqa: F401
from limelight.lab.settings.operator import FIELDS

_LEISURE = 8.0  # seconds
torch.set_num_threads(1)  # a process with threads of its own is not to be forked


def _load_the_rest(*_: Any) -> None:
    importlib.import_module("torch._dynamo")
    live = operator.LIVE(read(FIELDS, {})[0])
    for figure in live.figures().values():
        figure.to_json()


if hasattr(signal, "setitimer"):
    # Between two forks: a thread might hold a lock while there is one.
    signal.signal(signal.SIGALRM, _load_the_rest)
    signal.setitimer(signal.ITIMER_REAL, _LEISURE)

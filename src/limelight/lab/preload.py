"""What every worker needs, loaded once in the process that they are forked from.

A first picture is drawn there, too: the libraries put off half of what they load until they are used.
"""

import os

if hasattr(os, "nice"):
    os.nice(5)  # whoever answers the page, and the page itself, go first

import torch._dynamo  # an optimiser's first step asks for it, and it takes a second

from limelight.lab.address import read
from limelight.lab.live import bias, operator, slopes  # noqa: F401
from limelight.lab.worker import first_frame

torch.set_num_threads(1)  # a process with threads of its own is not to be forked
first_frame("operator", read(operator.FIELDS, {})[0])

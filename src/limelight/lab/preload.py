"""What every worker needs, imported once in the process that they are forked from."""

import os

import torch._dynamo  # noqa: F401  (an optimiser's first step asks for it, and it takes a second)

import limelight.lab.live.bias
import limelight.lab.live.operator
import limelight.lab.live.slopes
import limelight.lab.worker  # noqa: F401

if hasattr(os, "nice"):
    os.nice(5)  # whoever answers the page goes first

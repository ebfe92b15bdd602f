"""What every worker needs, imported once in the process that they are forked from."""

import numpy  # noqa: F401
import plotly.graph_objects  # noqa: F401
import torch  # noqa: F401

import limelight.lab.worker  # noqa: F401

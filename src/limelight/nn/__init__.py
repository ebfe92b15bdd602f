"""Layers as torch modules that compute with the operator."""

from limelight.nn.differential import DifferentialShare
from limelight.nn.multihead import MultiheadAttention
from limelight.nn.slots import SlotAttention

__all__ = ["DifferentialShare", "MultiheadAttention", "SlotAttention"]

"""Layers as torch modules that compute with the operator."""

from limelight.nn.multihead import MultiheadAttention
from limelight.nn.slots import SlotAttention

__all__ = ["MultiheadAttention", "SlotAttention"]

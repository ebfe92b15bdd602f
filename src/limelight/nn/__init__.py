"""Layers and models as torch modules, each an ordinary user of the operator."""

from limelight.nn.multihead import MultiheadAttention

__all__ = ["MultiheadAttention"]

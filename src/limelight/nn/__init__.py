"""Layers as torch modules that compute with the operator."""

from limelight.nn.multihead import MultiheadAttention

__all__ = ["MultiheadAttention"]

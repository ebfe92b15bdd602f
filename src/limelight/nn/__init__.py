"""Layers and models as torch modules, each an ordinary user of the operator."""

from limelight.nn.gate import Gate

from limelight.nn.mlp import mlp

from limelight.nn.train import Diverged, descend


__all__ = []

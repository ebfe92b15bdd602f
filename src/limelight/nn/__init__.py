"""Layers and models as torch modules, each an ordinary user of the operator."""

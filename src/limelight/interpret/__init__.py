"""Tools to interpret trained networks: saliency, the Jacobian of a layer, and the linear regions of a function."""

"""What does a trained network do? Saliency, the Jacobian of a layer, and the linear regions of a function."""

"""Two small generative models learn: a diffusion model to draw digits, a Transformer to write letters backwards."""

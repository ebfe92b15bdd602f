"""The networks that the claims train, which use the operator through its public interface, and the training loop."""

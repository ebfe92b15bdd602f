"""The networks that the claims train, which use the operator through its public interface, and the training loop.

One file for each; `docs/api/models.md` lists them by subject.
"""

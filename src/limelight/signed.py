"""Operators whose weights may be negative, for which entropies and the like have no meaning."""

from __future__ import annotations

from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.linear_operator import LinearOperator


class SignedOperator(LinearOperator):
    """A linear operator made of attentions whose weights may be negative.

    It can be applied, transposed and summed over queries. The measures that take a row for a distribution over keys
    raise `InputError`.
    """

    def column_mass(self) -> Float[Tensor, "*batch m"]:
        """Σ_i M_ij, in which positive and negative weights cancel."""
        return (self.T @ torch.ones(self.shape[-2], 1, dtype=self.dtype, device=self.device))[..., 0]

    def entropy(self) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("entropy()")

    def free_energy(self) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("free_energy()")

    def logsumexp(self) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("logsumexp()")

    def mean_position(self) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("mean_position()")

    def mean_distance(self, offset: int = 0) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("mean_distance()")

    def topk(self, k: int) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("topk()")

    def irreversibility(self) -> NoReturn:
        """Raises `InputError`."""
        self._refuse("irreversibility()")

    def _refuse(self, measure: str) -> NoReturn:
        raise InputError(
            f"{measure} takes a row for a distribution over keys, and the weights of {type(self).__name__} may be "
            "negative; measure the attention that it is made of"
        )

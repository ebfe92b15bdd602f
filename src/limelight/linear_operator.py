"""A linear map v ↦ M v that is given by its action and never stored.

`Attention` is one, and so is whatever is made of one: its transpose, its rescaled, symmetrized or centered forms. A
class defines `shape`, `dtype`, `device` and `_apply`; the rest follows from these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.errors import InputError, MissingExtraError, how_to_install

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator


class LinearOperator(ABC):
    """M, a map from (*batch, m, e) to (*batch, n, e) that is linear in its argument: `M @ v`, `M.T @ w`, `M.shape`.

    >>> import torch
    >>> from limelight import Attention, LinearOperator
    >>> x = torch.zeros(3, 1)
    >>> A = Attention(x, x)
    >>> isinstance(A, LinearOperator), isinstance(A.T, LinearOperator)
    (True, True)
    >>> A.as_scipy().matvec([1.0, 2.0, 6.0])
    array([3., 3., 3.], dtype=float32)
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of what it is applied to."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of what it is applied to."""

    @abstractmethod
    def _apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """M v, of values that fit."""

    def _apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*batch m e"]:
        """Mᵀ w, of values that fit."""
        raise InputError(f"{type(self).__name__} does not say how its transpose is applied")

    def __matmul__(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """M v."""
        return self._apply(self.require_values(v))

    @property
    def T(self) -> LinearOperator:
        """Mᵀ, as an operator."""
        return Transposed(self)

    _operand = "v"  # what errors call that which it is applied to

    def _cast(self, v: Tensor) -> Tensor:
        """v as the operator takes it: under autocast, an attention's has another dtype than what comes in."""
        return v

    def require_values(self, v: Tensor) -> Tensor:
        """v; or raise unless it is (*#batch, m, e), of the operator's dtype and device."""
        v = self._cast(v)
        check.values(self._operand, v, self.dtype, self.device, self.shape[-1], self.shape[:-2])
        return v

    def dense(self) -> Float[Tensor, "*batch n m"]:
        """M itself, n×m: to look at, or for small n and m."""
        return self @ torch.eye(self.shape[-1], dtype=self.dtype, device=self.device)

    def as_scipy(self) -> ScipyOperator:
        """M as a `scipy.sparse.linalg.LinearOperator`, for SciPy's solvers: arrays in, arrays out, on the CPU.

        Raises `InputError` for an operator with batch dimensions, or one whose dtype NumPy has not (bfloat16).
        """
        try:
            from scipy.sparse.linalg import LinearOperator as ScipyOperator
        except ImportError as missing:
            raise MissingExtraError(f"as_scipy needs SciPy; {how_to_install('classical')}") from missing
        if len(self.shape) != 2:
            raise InputError(f"a SciPy operator is one matrix (n, m); this one has the shape {self.shape}")
        if self.dtype == torch.bfloat16:
            raise InputError("NumPy has no bfloat16: make the operator of float32 or float64 tensors")

        def through(operator: LinearOperator):  # type: ignore[no-untyped-def]
            @torch.no_grad()
            def apply(x):  # type: ignore[no-untyped-def]
                columns = torch.as_tensor(x, dtype=operator.dtype, device=operator.device)
                product = operator @ columns.reshape(operator.shape[-1], -1)
                return product.reshape(-1, *columns.shape[1:]).cpu().numpy()

            return apply

        there, back = through(self), through(self.T)
        numpy_dtype = torch.zeros((), dtype=self.dtype).numpy().dtype
        return ScipyOperator(self.shape, matvec=there, rmatvec=back, matmat=there, rmatmat=back, dtype=numpy_dtype)


class DerivedOperator(LinearOperator):
    """A linear operator that is made of another one: of its shape, unless it says another, its dtype and device."""

    def __init__(self, operator: LinearOperator) -> None:
        self._operator, self.shape = operator, operator.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        return self._operator.device


class Transposed(DerivedOperator):
    """Mᵀ. Of an attention: what each key gives, gathered from the queries, (Pᵀ w)_j = Σ_i P_ij w_i."""

    _operand = "w"

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator)
        *batch, n, m = operator.shape
        self.shape = (*batch, m, n)

    def _apply(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*batch m e"]:
        return self._operator._apply_transposed(w)

    def _apply_transposed(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        return self._operator @ v

    def _cast(self, v: Tensor) -> Tensor:
        return self._operator._cast(v)

    @property
    def T(self) -> LinearOperator:
        return self._operator

    def dense(self) -> Float[Tensor, "*batch m n"]:
        """Mᵀ itself, m×n."""
        return self._operator.dense().mT

    def __repr__(self) -> str:
        return f"{self._operator!r}.T"

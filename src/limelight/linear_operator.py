"""A linear map v ↦ M v that is defined by how it is applied, and never stored.

`Attention` is one, and so are the operators derived from it: its transpose, and its rescaled, symmetrized or centered
forms. A class defines `shape`, `dtype`, `device` and `_apply`; the rest follows from these.
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
        """The dtype of the tensors that it is applied to."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the tensors that it is applied to."""

    @abstractmethod
    def _apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """M v, for a v that has been checked."""

    def _apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*batch m e"]:
        """Mᵀ w, for a w that has been checked."""
        raise InputError(f"{type(self).__name__} has no transpose; define _apply_transposed")

    def __matmul__(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """M v."""
        return self._apply(self.require_values(v))

    @property
    def T(self) -> LinearOperator:
        """Mᵀ, as an operator."""
        return Transposed(self)

    _operand = "v"  # the name of the operand in errors

    def _cast(self, v: Tensor) -> Tensor:
        """v in the dtype that the operator needs: under autocast an attention converts it."""
        return v

    def require_values(self, v: Tensor) -> Tensor:
        """v, checked: raises unless it is (*#batch, m, e) and has the operator's dtype and device."""
        v = self._cast(v)
        check.values(self._operand, v, self.dtype, self.device, self.shape[-1], self.shape[:-2])
        return v

    def dense(self) -> Float[Tensor, "*batch n m"]:
        """The matrix M, n×m: for pictures, or for small n and m."""
        return self @ torch.eye(self.shape[-1], dtype=self.dtype, device=self.device)

    def as_scipy(self) -> ScipyOperator:
        """M as a `scipy.sparse.linalg.LinearOperator`, for SciPy's solvers: arrays in, arrays out, on the CPU.

        Raises `InputError` for an operator with batch dimensions, or with a dtype that NumPy lacks (bfloat16).
        """
        try:
            from scipy.sparse.linalg import LinearOperator as ScipyOperator
        except ImportError as missing:
            raise MissingExtraError(f"as_scipy needs SciPy; {how_to_install('classical')}") from missing
        if len(self.shape) != 2:
            raise InputError(
                f"as_scipy expects an operator of shape (n, m), got {self.shape}; take one matrix of the batch"
            )
        if self.dtype == torch.bfloat16:
            raise InputError(
                "as_scipy expects a dtype that NumPy has, got bfloat16; make the operator from float32 tensors"
            )

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
    """A linear operator derived from another one. It has the same dtype and device, and by default the same shape."""

    def __init__(self, operator: LinearOperator) -> None:
        self._operator, self.shape = operator, operator.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        return self._operator.device


class Transposed(DerivedOperator):
    """Mᵀ. For an attention, (Pᵀ w)_j = Σ_i P_ij w_i sums over the queries, weighted by what each takes from key j."""

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
        """The matrix Mᵀ, m×n."""
        return self._operator.dense().mT

    def __repr__(self) -> str:
        return f"{self._operator!r}.T"

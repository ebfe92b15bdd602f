"""Similarities that fall with a distance: Gaussian, learned, Laplacian, Student's t."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.similarity.base import (
    Factors,
    Parts,
    Properties,
    Similarity,
    beside,
    centre,
    is_finite,
    offset,
    require_positive,
    wide,
)


class Euclidean(Similarity):
    """β = −½|q − k|², scale 1/h²: a Gaussian kernel of bandwidth h, so score −|q − k|²/2h².

    With one and the same `scale`, this is `Dot` plus a key term −½|k|²: the difference between the
    two is the key norms and nothing else. `bandwidth` is in the units of q and k; a tensor that
    broadcasts against (*batch, 1, 1) gives each head its own, and an `nn.Parameter` is learned.
    In float32 the factored form needs |q|, |k| (about the keys' mean) ≲ 10³ h.

    Raises `InputError` for a bandwidth that is not positive and finite.
    """

    properties = Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)

    def __init__(self, bandwidth: float | Tensor = 1.0) -> None:
        super().__init__()
        require_positive("bandwidth", bandwidth)
        self.bandwidth = bandwidth

    def default_scale(self, d: int) -> float | Tensor:
        require_positive("bandwidth", self.bandwidth)  # a learned one may have wandered
        return self.bandwidth**-2

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -0.5 * (wide(q)[..., :, None, :] - wide(k)[..., None, :, :]).square().sum(-1)

    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        middle = offset(k, real)
        if middle is not None:
            q, k = (q - middle).to(q.dtype), (k - middle).to(k.dtype)
        return Factors(q, k, _minus_half_square(q), _minus_half_square(k))

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth}"


class Metric(Similarity):
    """β = −½|φ(q) − φ(k)|² for a learned φ, scale 2, so score −|φ(q) − φ(k)|² (Ruan & Zhang, 2412.18288).

    φ is any module (*, d) → (*, r), applied to each row alone; when q and k are the same tensor it
    is evaluated once. In half precision φ runs under autocast. A φ that is linear gives L2 attention (Kim et al. 2021).

    Raises `InputError` where φ does not return (*, r) of finite numbers in the dtype of its input.
    """

    properties = Properties(symmetric=True, positive_definite=True, metric=True)

    def __init__(self, phi: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(phi):
            raise InputError(f"Metric(phi) expects a module or function (*, d) → (*, r), got {type(phi).__name__}")
        self.phi = phi
        self._distance = Euclidean()

    def default_scale(self, d: int) -> float:
        return 2.0

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self._distance.dense(*self._images(q, k))

    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        return self._distance.factor(*self._images(q, k), real)

    def _images(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        image_q = self._image(q, "q")
        return image_q, image_q if k is q else self._image(k, "k")

    def _image(self, x: Tensor, name: str) -> Tensor:
        half = x.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(x.device.type, dtype=x.dtype if half else None, enabled=half):
            image = self.phi(x)
        if not isinstance(image, Tensor) or image.shape[:-1] != x.shape[:-1] or image.dtype != x.dtype:
            got = (tuple(image.shape), image.dtype) if isinstance(image, Tensor) else type(image).__name__
            raise InputError(
                f"Metric's φ must map {name} of shape {tuple(x.shape)}, {x.dtype}, "
                f"to {(*x.shape[:-1], 'r')} of the same dtype; it returned {got}"
            )
        if not is_finite(image):
            raise InputError(f"Metric's φ returned NaN or infinity for {name}")
        return image


class Laplacian(Similarity):
    """β = −|q − k|₁ = −Σ_c |q_c − k_c|, scale 1/h: a Laplacian kernel of bandwidth h.

    Not an inner product: it costs n·m·d additions that no matrix product can do.
    Raises `InputError` for a bandwidth that is not positive and finite.
    """

    properties = Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)

    def __init__(self, bandwidth: float | Tensor = 1.0) -> None:
        super().__init__()
        require_positive("bandwidth", bandwidth)
        self.bandwidth = bandwidth

    def default_scale(self, d: int) -> float | Tensor:
        require_positive("bandwidth", self.bandwidth)
        return 1 / self.bandwidth

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -(wide(q)[..., :, None, :] - wide(k)[..., None, :, :]).abs().sum(-1)

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return -torch.cdist(parts.queries[0], parts.keys[0], p=1.0)

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth}"


class StudentT(Similarity):
    """β = −log(1 + |q − k|²/ν), scale (ν + 1)/2: heavy tails, as in t-SNE (van der Maaten & Hinton 2008).

    ν > 0 is a number, or an `nn.Parameter` to be learned; a tensor broadcasts against (*batch, 1, 1).
    In float32 it needs |q|², |k|² (about the keys' mean) ≲ 10⁵ ν. Raises `InputError` for ν ≤ 0.
    """

    coefficient = -1.0
    properties = Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)

    def __init__(self, nu: float | Tensor = 1.0) -> None:
        super().__init__()
        require_positive("nu", nu)
        self.nu = nu

    def default_scale(self, d: int) -> float | Tensor:
        require_positive("nu", self.nu)
        return (self.nu + 1) / 2

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        square = (wide(q)[..., :, None, :] - wide(k)[..., None, :, :]).square().sum(-1)
        return -torch.log1p(square / self.nu)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        # |q − k|²/ν as one inner product: ⟨(−2q/ν, |q|²/ν, 1), (k, 1, |k|²/ν)⟩.
        middle = centre(k, real)
        q, k = wide(q) - middle, wide(k) - middle
        one_q, one_k = torch.ones_like(q[..., :1]), torch.ones_like(k[..., :1])
        square_q, square_k = (x.square().sum(-1, keepdim=True) / self.nu for x in (q, k))
        return Parts((beside([-2 / self.nu * q, square_q, one_q]),), (beside([k, one_k, square_k]),))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return (parts.queries[0] @ parts.keys[0].mT).log1p()

    def extra_repr(self) -> str:
        return f"nu={self.nu}"


def _minus_half_square(x: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n"]:
    return -0.5 * wide(x).square().sum(-1)

"""How alike are a query and a key?

Each similarity is a class with its equation twice: `dense`, the definition, entry by entry, and
`factor`, the same as an inner product plus a term of the query and a term of the key,

    β(q, k) = ⟨q', k'⟩ + a(q) + b(k),

which is what lets the matrix stay unstored. The score of a pair is scale · β(q, k).
To add one: write a class here with these two methods and its own default scale, and list it in
`tests/operator/mechanisms.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limelight.errors import InputError


@dataclass(frozen=True)
class Factors:
    """β_ij = ⟨q_i, k_j⟩ + a_i + b_j; a term that is None is zero.

    The terms are at least float32, whatever q and k are: in bfloat16 they would lose what
    distinguishes near keys.
    """

    q: Float[Tensor, "*#batch n r"]
    k: Float[Tensor, "*#batch m r"]
    query_term: Float[Tensor, "*#batch n"] | None = None
    key_term: Float[Tensor, "*#batch m"] | None = None


class Similarity(nn.Module, ABC):
    """β(q, k), a module so that what it learns is trained with the model that holds it."""

    @abstractmethod
    def default_scale(self, d: int) -> float | Tensor:
        """What β is multiplied by when no `scale=` is given; d is the width of q and k."""

    @abstractmethod
    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        """β, entry by entry, in at least float32: the definition."""

    @abstractmethod
    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        """β as an inner product and two terms. Keys that are not `real` must not move the others."""


class Dot(Similarity):
    """β = ⟨q, k⟩, scale 1/√d: the attention of the Transformer (Vaswani et al. 2017)."""

    def default_scale(self, d: int) -> float:
        return 1 / math.sqrt(d)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return wide(q) @ wide(k).mT

    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        return Factors(q, k)


class Cosine(Similarity):
    """β = ⟨q, k⟩ / |q||k|, scale 1. A zero vector is at right angles to everything: β = 0, gradient 0."""

    def default_scale(self, d: int) -> float:
        return 1.0

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return _unit(wide(q)) @ _unit(wide(k)).mT

    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        return Factors(_unit(q), _unit(k))


class Euclidean(Similarity):
    """β = −½|q − k|², scale 1/h²: a Gaussian kernel of bandwidth h, so score −|q − k|²/2h².

    With one and the same `scale`, this is `Dot` plus a key term −½|k|²: the difference between the
    two is the key norms and nothing else. `bandwidth` is in the units of q and k; a tensor that
    broadcasts against (*batch, 1, 1) gives each head its own, and an `nn.Parameter` is learned.
    In float32 the factored form needs |q|, |k| (about the keys' mean) ≲ 10³ h.

    Raises `InputError` for a bandwidth that is not positive and finite.
    """

    def __init__(self, bandwidth: float | Tensor = 1.0) -> None:
        super().__init__()
        _require_positive("bandwidth", bandwidth)
        self.bandwidth = bandwidth

    def default_scale(self, d: int) -> float | Tensor:
        _require_positive("bandwidth", self.bandwidth)  # a learned one may have wandered
        return self.bandwidth**-2

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -0.5 * (wide(q)[..., :, None, :] - wide(k)[..., None, :, :]).square().sum(-1)

    def factor(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Factors:
        middle = centre(k, real)
        q, k = (q - middle).to(q.dtype), (k - middle).to(k.dtype)
        return Factors(q, k, _minus_half_square(q), _minus_half_square(k))

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth}"


class Metric(Similarity):
    """β = −½|φ(q) − φ(k)|² for a learned φ, scale 2, so score −|φ(q) − φ(k)|² (Ruan & Zhang, 2412.18288).

    φ is any module (*, d) → (*, r), applied to each row alone; when q and k are the same tensor it
    is evaluated once. A φ that is linear gives L2 attention (Kim et al. 2021).

    Raises `InputError` where φ does not return (*, r) of finite numbers in the dtype of its input.
    """

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


def is_finite(x: Tensor) -> bool:
    """No NaN and no infinity. One sum decides in the common case; overflow asks entry by entry."""
    return math.isfinite(x.detach().sum().item()) or bool(x.detach().isfinite().all())


def _unit(x: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n d"]:
    norm = torch.linalg.vector_norm(wide(x), dim=-1, keepdim=True)
    inverse = torch.where(norm > 0, 1 / norm.masked_fill(norm == 0, 1), 0)
    return (x * inverse).to(x.dtype)


def centre(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Float[Tensor, "*#batch 1 d"]:
    """The mean of the real keys, for what does not see a common translation; so it carries no gradient."""
    k = wide(k.detach())
    if real is None:
        return k.mean(-2, keepdim=True)
    total = torch.where(real[..., None], k, 0).sum(-2, keepdim=True)
    return total / real.sum(-1)[..., None, None].clamp(min=1)


def _minus_half_square(x: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n"]:
    return -0.5 * wide(x).square().sum(-1)


def wide(x: Tensor) -> Tensor:
    """x in the dtype in which biases and statistics are kept: float64 if it is, else float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _require_positive(name: str, value: float | Tensor) -> None:
    if isinstance(value, Tensor):
        good = bool(((value > 0) & value.isfinite()).all())
    else:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
    if not good:
        raise InputError(f"{name} must be positive and finite, got {value!r}")

"""Similarities that fall with a distance: Gaussian, learned, Laplacian, Student's t."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads import POSITIVE, batch_shape_of, hold, per_head, require
from limelight.similarity.base_similarity import Properties, Similarity
from limelight.similarity.forms import InnerProduct, KeyFactors, PairFunction, Parts
from limelight.similarity.tensors import center, concat_features, is_finite, shift_for_precision, upcast, upcast_pair
from limelight.tracing import in_transform
from limelight.twice import twice_differentiable

_DIFFERENCES = 1 << 20  # so many numbers are stored at once: 4 MB as float32


class Euclidean(Similarity):
    """β = −½|q − k|², scale 1/h²: a Gaussian kernel of bandwidth h, so score −|q − k|²/2h².

    With the same `scale`, this differs from `Dot` only by a key term −½|k|², which depends on the key
    norms. `bandwidth` is in the units of q and k; a tensor (heads,)
    gives each head its own, and an `nn.Parameter` is learned.
    In float32 the factored form needs |q|, |k| (about the keys' mean) ≲ 10³ h.

    Raises `InputError` for a bandwidth that is not positive and finite.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> x = torch.tensor([[0.0], [1.0], [9.0]])
    >>> Attention(x, x, Euclidean(bandwidth=1.0)).dense().round(decimals=3)
    tensor([[0.6220, 0.3780, 0.0000],
            [0.3780, 0.6220, 0.0000],
            [0.0000, 0.0000, 1.0000]])
    """

    properties = Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)

    def __init__(self, bandwidth: float | Tensor = 1.0) -> None:
        super().__init__()
        self.bandwidth: float | Tensor
        hold(self, "bandwidth", bandwidth, POSITIVE)

    def default_scale(self, d: int) -> float | Tensor:
        require("Euclidean(bandwidth=…)", self.bandwidth, POSITIVE)  # a learned one may have left the range
        return per_head(self.bandwidth) ** -2

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -0.5 * (upcast(q)[..., :, None, :] - upcast(k)[..., None, :, :]).square().sum(-1)

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return _square_distances(q, k).mul_(-0.5)

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors:
        return KeyFactors(k, _minus_half_square(k))

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return _factors(q, k, real, q.dtype)

    def rounded_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return self.as_inner_product(q, k, real)

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth}"


class Metric(Similarity):
    """β = −½|φ(q) − φ(k)|² for a learned φ, scale 2, so score −|φ(q) − φ(k)|² (Ruan & Zhang, 2412.18288).

    φ is any module (*, d) → (*, r), applied to each row alone; when q and k are the same tensor it
    is evaluated once. It runs in the dtype of its own parameters; queries and keys in half precision may meet a φ in
    float32 or in half precision. A φ that is linear gives L2 attention (Kim et al. 2021).

    Raises `InputError` where φ does not return (*, r) of finite numbers in the dtype of its input, or has parameters of
    another dtype than q and k.

    >>> import torch
    >>> from limelight import Attention, Metric
    >>> phi = torch.nn.Linear(3, 2)  # learned with the model that holds it
    >>> x = torch.randn(6, 3)
    >>> Attention(x, x, Metric(phi)).kernel
    'fused'
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

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors:
        return self._distance.key_factors(self._image(k, "k"))

    def query_factors(self, q: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n r"]:
        return self._image(q, "q")

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return self.rounded_inner_product(q, k, real)

    def rounded_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return _factors(*self._images(*upcast_pair(q, k)), real, q.dtype)

    def _images(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        image_q = self._image(q, "q")
        return image_q, image_q if k is q else self._image(k, "k")

    def _image(self, x: Tensor, name: str) -> Tensor:
        x = self._as_phi_takes_it(x)
        image = self.phi(x)
        if not isinstance(image, Tensor) or image.shape[:-1] != x.shape[:-1] or image.dtype != x.dtype:
            got = (tuple(image.shape), image.dtype) if isinstance(image, Tensor) else type(image).__name__
            raise InputError(
                f"Metric's φ must map {name} of shape {tuple(x.shape)}, {x.dtype}, "
                f"to {(*x.shape[:-1], 'r')} of the same dtype; it returned {got}"
            )
        if not is_finite(image):
            raise InputError(f"Metric's φ returned NaN or infinity for {name}")
        return upcast(image)

    def _as_phi_takes_it(self, x: Tensor) -> Tensor:
        """x, which is in at least float32, converted to the dtype of φ's parameters."""
        learned = self.phi.parameters() if isinstance(self.phi, nn.Module) else ()
        dtype = next((p.dtype for p in learned if p.is_floating_point()), x.dtype)
        if dtype == x.dtype or (x.dtype == torch.float32 and dtype in (torch.bfloat16, torch.float16)):
            return x.to(dtype)
        raise InputError(f"Metric's φ has parameters in {dtype}, the tokens are in {x.dtype}; convert one with .to()")


class Laplacian(Similarity):
    """β = −|q − k|₁ = −Σ_c |q_c − k_c|, scale 1/h: a Laplacian kernel of bandwidth h.

    It is not an inner product: its n·m·d additions cannot be done by a matrix product.
    Raises `InputError` for a bandwidth that is not positive and finite.

    >>> import torch
    >>> from limelight import Laplacian
    >>> q, k = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    >>> Laplacian().dense(q, k)
    tensor([[-3.]])
    """

    properties = Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)

    def __init__(self, bandwidth: float | Tensor = 1.0) -> None:
        super().__init__()
        self.bandwidth: float | Tensor
        hold(self, "bandwidth", bandwidth, POSITIVE)

    def default_scale(self, d: int) -> float | Tensor:
        require("Laplacian(bandwidth=…)", self.bandwidth, POSITIVE)
        return 1 / per_head(self.bandwidth)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -(upcast(q)[..., :, None, :] - upcast(k)[..., None, :, :]).abs().sum(-1)

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -torch.cdist(q, k, p=1.0)

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        q, k = parts.queries[0], parts.keys[0]
        if in_transform():
            return self.dense(q, k)
        return -twice_differentiable(torch.cdist(q, k, p=1.0), (q, k), _cityblock_gradients)

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth}"


class StudentT(Similarity):
    """β = −log(1 + |q − k|²/ν), scale (ν + 1)/2: heavy tails, as in t-SNE (van der Maaten & Hinton 2008).

    ν > 0 is a number, a tensor (heads,) with one for each head, or an `nn.Parameter` to be learned.
    In float32 it needs |q|², |k|² (about the keys' mean) ≲ 10⁵ ν. Raises `InputError` for ν ≤ 0.

    >>> import torch
    >>> from limelight import StudentT
    >>> q, k = torch.tensor([[0.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    >>> StudentT(nu=1.0).dense(q, k).exp()  # 1/(1 + distance²)
    tensor([[1.0000, 0.5000, 0.1000]])
    """

    coefficient = -1.0
    properties = Properties(symmetric=True, translation_invariant=True, positive_definite=True, metric=True)

    def __init__(self, nu: float | Tensor = 1.0) -> None:
        super().__init__()
        self.nu: float | Tensor
        hold(self, "nu", nu, POSITIVE)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return batch_shape_of(self.nu)

    def default_scale(self, d: int) -> float | Tensor:
        require("StudentT(nu=…)", self.nu, POSITIVE)
        return (per_head(self.nu) + 1) / 2

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        square = (upcast(q)[..., :, None, :] - upcast(k)[..., None, :, :]).square().sum(-1)
        return -torch.log1p(square / per_head(self.nu))

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return (_square_distances(q, k) / per_head(self.nu)).log1p_().neg_()

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors:
        return KeyFactors(k, _minus_half_square(k))

    def of_product(
        self, product: Float[Tensor, "*#batch n m"], q: Float[Tensor, "*#batch n d"]
    ) -> Float[Tensor, "*#batch n m"]:
        # The product is ⟨q, k⟩ − ½|k|², which is ½|q|² − ½|q − k|². Where q = k, rounding may make |q − k|² negative.
        square = 2 * (-_minus_half_square(q)[..., None] - product)
        return -torch.log1p(square.clamp(min=0) / per_head(self.nu))

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        # |q − k|²/ν is one inner product, ⟨(−2q/ν, |q|²/ν, 1), (k, 1, |k|²/ν)⟩, so that a rectangle of β is a product
        # of matrices and one logarithm for each pair. Distances do not change when q and k move by one vector; about
        # the keys' mean the three terms are small, and so is the error where they cancel.
        middle, nu = center(k, real), per_head(self.nu)
        q, k = upcast(q) - middle, upcast(k) - middle
        one_q, one_k = torch.ones_like(q[..., :1]), torch.ones_like(k[..., :1])
        square_q, square_k = (x.square().sum(-1, keepdim=True) / nu for x in (q, k))
        return Parts((concat_features([-2 / nu * q, square_q, one_q]),), (concat_features([k, one_k, square_k]),))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return (parts.queries[0] @ parts.keys[0].mT).log1p()

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        # The product is −½|q − k|². Where q = k, rounding may make |q − k|² negative.
        factors, nu = _factors(q, k, real, q.dtype), per_head(self.nu)
        if isinstance(nu, Tensor):
            of = lambda s, i, j, read: -torch.log1p((-2 * s).clamp(min=0) / read(0))  # noqa: E731
            return PairFunction(factors, of, (nu.reshape(nu.shape or (1, 1)),))
        return PairFunction(factors, lambda s, i, j, read: -torch.log1p((-2 / nu * s).clamp(min=0)))

    def extra_repr(self) -> str:
        return f"nu={self.nu}"


def _square_distances(q: Tensor, k: Tensor) -> Float[Tensor, "*#batch n m"]:
    """|q_i − k_j|² of a few queries, computed from the differences, which lose no digits far from zero."""
    # `cdist` stores no differences, but takes twice as long for each pair as three operations on arrays in the cache.
    if q.shape[-2] * k.numel() > _DIFFERENCES:
        return torch.cdist(q, k, compute_mode="donot_use_mm_for_euclid_dist").square_()
    return (q.unsqueeze(-2) - k.unsqueeze(-3)).square_().sum(-1)


def _cityblock_gradients(q: Tensor, k: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j g_ij sign(q_i − k_j) and −Σ_i g_ij sign(q_i − k_j): the gradients of Σ g_ij |q_i − k_j|₁."""
    ahead = (q[..., :, None, :] - k[..., None, :, :]).sign() * g[..., None]
    return ahead.sum(-2).sum_to_size(q.shape), -ahead.sum(-3).sum_to_size(k.shape)


def _factors(q: Tensor, k: Tensor, real: Tensor | None, dtype: torch.dtype) -> InnerProduct:
    """−½|q − k|² as an inner product and two biases, of q and k moved by the keys' mean and then rounded to `dtype`."""
    # −½|q − k|² = ⟨q, k⟩ − ½|q|² − ½|k|², and moving q and k by one vector does not change it. Moved by the keys' mean,
    # the three terms are small, and so is the error where they cancel. Both norms are those of the rounded points: then
    # the sum of the three is the exact distance of points that are a rounding unit away, and small where they are near.
    # With the norms of the points themselves it would be wrong by a rounding unit of |k|².
    middle = shift_for_precision(k, real)
    if middle is not None:
        q, k = upcast(q) - middle, upcast(k) - middle
    q, k = q.to(dtype), k.to(dtype)
    return InnerProduct(q, k, _minus_half_square(q), _minus_half_square(k))


def _minus_half_square(x: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n"]:
    return -0.5 * upcast(x).square().sum(-1)

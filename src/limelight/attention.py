"""Attention: a linear operator that is never stored.

    P_ij = softmax_j(scale · β(q_i, k_j) + b_j),   A @ v = P v

`Attention(q, k, …)` is the matrix P as an object: it can be applied, transposed and measured, all
differentiably and, on the fused kernel, in memory linear in n and m.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limelight import check, measures
from limelight.errors import InputError
from limelight.kernels import Kernel, Scores, choose, compute, dense_scores
from limelight.mask import Mask, as_mask
from limelight.normalisation import Normalisation, Softmax
from limelight.shapes import broadcast_shapes
from limelight.similarity import Dot, Similarity
from limelight.weights import Weights

_Kept = TypeVar("_Kept", Tensor, Weights)
_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


def _apart_from_autocast(
    method: Callable[Concatenate[Attention, _Given], _Returned],
) -> Callable[Concatenate[Attention, _Given], _Returned]:
    """A method whose products keep their precision: autocast decides the dtype of q, k and v, and no more."""

    @wraps(method)
    def run(self: Attention, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
        device = self.q.device.type
        if not torch.is_autocast_enabled(device):
            return method(self, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return method(self, *args, **kwargs)

    return run


class Attention:
    """P_ij = softmax_j(scale · β(q_i, k_j) + b_j): a row-stochastic n×m operator that is never stored.

    q (*batch, n, d) and k (*batch, m, d) share dtype and device; batch dimensions broadcast.
    `similarity` is β, `normalisation` chooses b, `mask` says which query may see which key
    (True = may), and `scale`, a number or a tensor that broadcasts against (*batch, 1, 1),
    overrides the similarity's own. A query whose keys are all masked has a row of zeros.

    The kernel is chosen automatically and can be read: "fused" where the similarity is an inner
    product and two terms and the normalisation a row softmax, else "chunked"; both take memory linear
    in n and m. "reference" is dense. One asked for by name never falls back.

    Statistics are in at least float32, entropies in nats. Results of one object may share an
    autograd graph: call backward once on their sum, or with `retain_graph=True`.

    Raises `InputError` (shapes, values, a causal mask with a normalisation that mixes queries),
    `DtypeError`, `DeviceError`, `KernelError` and `UnknownNameError`.
    """

    def __init__(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        similarity: Similarity = Dot(),
        normalisation: Normalisation = Softmax(),
        mask: Mask | Bool[Tensor, "*#batch #n #m"] | None = None,
        scale: float | Float[Tensor, "*#batch 1 1"] | None = None,
        *,
        kernel: Kernel = "auto",
    ) -> None:
        check.instance("similarity", similarity, Similarity)
        check.instance("normalisation", normalisation, Normalisation)
        check.operands(q, k, similarity.same_width)
        self._autocast = torch.is_autocast_enabled(q.device.type)
        if self._autocast:  # as torch's own attention does
            q, k = (x.to(torch.get_autocast_dtype(x.device.type)) for x in (q, k))
        self.q, self.k = q, k
        self.similarity, self.normalisation = similarity, normalisation
        self.mask = None if mask is None else as_mask(mask)
        scale = similarity.default_scale(q.shape[-1]) if scale is None else scale
        check.scale(scale, q)
        self.scale = scale if _is_one(normalisation.temperature) else scale / normalisation.temperature
        heads = {"the similarity": similarity.batch_shape, "the normalisation": normalisation.batch_shape}
        self.shape = check.shape(q, k, self.mask, self.scale, heads)
        # What is asked for may be cheaper under this mask, and the same.
        self._similarity = similarity.under(self.mask)
        not_fused = None if normalisation.fused else f"{type(normalisation).__name__} is not a row softmax"
        self.kernel = choose(kernel, q.device, q.dtype, self._similarity, not_fused, self.mask)
        _refuse_a_leak(self.normalisation, self.mask, self.shape, q.device)
        if normalisation.needs_symmetry:
            check.symmetric(normalisation, q, k, similarity, self.mask)
        self._kept: dict[tuple[str, bool, bool], Tensor | Weights] = {}

    @_apart_from_autocast
    def __matmul__(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """P v: for each query the weighted mean of the rows of v."""
        v = self.require_values(v)
        return self._whole_batch(self.weights().apply(v), v)

    def require_values(self, v: Tensor) -> Tensor:
        """v, under autocast in its dtype; or raise unless it is (*#batch, m, e), of q's dtype and device."""
        v = v.to(self.q.dtype) if self._autocast and isinstance(v, Tensor) else v
        check.values("v", v, self.q, self.shape[-1], self.shape[:-2])
        return v

    @_apart_from_autocast
    def apply_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*batch n e"]:
        """(D ∘ P) v with D_ij = 0 with probability p, else 1/(1 − p): drawn anew at each call, a few rows at a time."""
        v, weights = self.require_values(v), self.weights()

        def some(own: Weights, v: Tensor, rows: slice) -> Tensor:
            kept = F.dropout(own.block(rows), p)
            return (kept @ v.to(kept.dtype)).to(v.dtype)

        return self._whole_batch(weights.by_rows(some, v, dim=-2), v)

    @property
    def T(self) -> Transposed:
        """Pᵀ, as an operator."""
        return Transposed(self)

    @_apart_from_autocast
    def logsumexp(self) -> Float[Tensor, "*batch n"]:
        """L_i = log Σ_j exp(s_ij + b_j), so that P_ij = exp(s_ij + b_j − L_i); −∞ where every key is masked.

        Raises `InputError` for a normalisation that is not one softmax of scores (`Entmax`, `TopK`,
        `Sigmoid`, `Hybrid`).
        """
        return self._keep("logsumexp", lambda: self._full(self.weights().logsumexp(), -2))

    @_apart_from_autocast
    def entropy(self) -> Float[Tensor, "*batch n"]:
        """H_i = −Σ_j P_ij log P_ij in nats: query i mixes about exp H_i keys; 0 where every key is masked."""
        return self._full(self.weights().entropy(), -2)

    @_apart_from_autocast
    def column_mass(self) -> Float[Tensor, "*batch m"]:
        """Σ_i P_ij: what all queries together take from key j. The masses sum to the number of rows that see a key."""
        return self._full(self.weights().column_mass(), -1)

    @_apart_from_autocast
    def free_energy(self) -> Float[Tensor, "*batch n"]:
        """F_i = −τ L_i, with temperature τ = 1/scale and energy E_ij = −τ (s_ij + b_j).

        F_i is the minimum over the simplex of Σ_j p_j E_ij − τ H(p), attained at p = P_i; so
        F = mean energy − τ · entropy, row by row, which is also what it is for weights that are no
        softmax. +∞ where every key is masked.
        """
        scale = self.scale
        if isinstance(scale, Tensor):
            scale = scale.reshape(scale.shape[:-1] or ())  # (*batch, 1, 1) beside (*batch, n)
        return -self._keep("potential", lambda: self._full(self.weights().potential(), -2)) / scale

    @_apart_from_autocast
    def position(self) -> Float[Tensor, "*batch n"]:
        """Σ_j P_ij j: the position of the key that query i looks at, in the mean; 0 where every key is masked."""
        return self._full(measures.position(self.weights()), -2)

    @_apart_from_autocast
    def distance(self, offset: int = 0) -> Float[Tensor, "*batch n"]:
        """Σ_j P_ij |i + offset − j|: how far query i looks, in the mean, standing at i + offset; 0 where masked."""
        return self._full(measures.distance(self.weights(), offset), -2)

    @_apart_from_autocast
    def strongest(self, k: int) -> measures.Strongest:
        """The k largest weights of each query and their keys, both (*batch, n, k), largest first.

        The key is −1 where fewer than k keys have any weight. Raises `InputError` for k outside 1 … m.
        """
        weights, keys = measures.strongest(self.weights(), k)
        whole = (*self.shape[:-1], k)
        return measures.Strongest(weights.expand(whole), keys.expand(whole))

    @_apart_from_autocast
    def irreversibility(self) -> Float[Tensor, "*batch"]:
        """½ Σ_ij |π_i P_ij − π_j P_ji| with πP = π: how far from detailed balance, 0 (reversible) to 1. No gradient.

        A symmetric similarity gives 0 with a row softmax; queries and keys from different matrices do not.
        Raises `InputError` where n ≠ m, the mask is not symmetric or rows do not sum to one, and
        `ConvergenceError` where the walk does not settle.
        """
        value = measures.irreversibility(self.weights(), self.mask, self.q.device)
        return value.expand(self.shape[:-2])

    @_apart_from_autocast
    def dense(self) -> Float[Tensor, "*batch n m"]:
        """P itself, n×m, from the reference kernel and in q's dtype: to look at, or for small n and m."""
        scores = dense_scores(self.q, self.k, self.similarity, self.scale, self.mask)
        weights = self.normalisation(scores).block(slice(0, self.shape[-2]))
        return weights.expand(self.shape).to(self.q.dtype)

    def __repr__(self) -> str:
        mask = "" if self.mask is None else f", mask={self.mask!r}"
        return f"Attention({self.shape}, {self.similarity}, {self.normalisation}{mask}, kernel={self.kernel!r})"

    def weights(self) -> Weights:
        """P itself, as what applies it: its rows a few at a time, and what is summed over them."""
        return self._keep("weights", lambda: self.normalisation(self._scores()))

    def _scores(self) -> Scores:
        similarity = self.similarity if self.kernel == "reference" else self._similarity
        return compute(self.kernel, self.q, self.k, similarity, self.scale, self.mask)

    def _keep(self, name: str, make: Callable[[], _Kept]) -> _Kept:
        if torch.compiler.is_compiling():
            return make()  # the compiler finds for itself what is computed twice
        # What was computed without gradients must not serve a call that wants them.
        key = (name, torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]  # type: ignore[return-value]

    @_apart_from_autocast
    def _apply_transposed(self, w: Tensor) -> Tensor:
        return self._whole_batch(self.weights().apply_transposed(w), w)

    def _whole_batch(self, out: Tensor, values: Tensor) -> Tensor:
        """With every batch dimension, also where what is computed (a bias of positions, say) is the same for all."""
        if out.shape[:-2] == self.shape[:-2] and out.ndim >= values.ndim:
            return out
        batch = broadcast_shapes(self.shape[:-2], values.shape[:-2])
        return out if out.shape[:-2] == batch else out.expand(*batch, *out.shape[-2:])

    def _full(self, statistic: Tensor, length: int) -> Tensor:
        return statistic.expand(*self.shape[:-2], self.shape[length])


class Transposed:
    """Aᵀ: what each key gives, gathered from the queries. `A.T @ w` is (Pᵀ w)_j = Σ_i P_ij w_i."""

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        *batch, n, m = attention.shape
        self.shape = (*batch, m, n)

    def __matmul__(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*batch m e"]:
        """Pᵀ w."""
        w = w.to(self._attention.q.dtype) if self._attention._autocast and isinstance(w, Tensor) else w
        check.values("w", w, self._attention.q, self.shape[-1], self.shape[:-2])
        return self._attention._apply_transposed(w)

    @property
    def T(self) -> Attention:
        return self._attention

    def dense(self) -> Float[Tensor, "*batch m n"]:
        """Pᵀ itself, m×n."""
        return self._attention.dense().mT

    def __repr__(self) -> str:
        return f"{self._attention!r}.T"


def _is_one(temperature: float | Tensor) -> bool:
    return not isinstance(temperature, Tensor) and temperature == 1


def _refuse_a_leak(
    normalisation: Normalisation, mask: Mask | None, shape: tuple[int, ...], device: torch.device
) -> None:
    if mask is not None and normalisation.mixes_queries and mask.is_causal(shape[-2], shape[-1], device):
        raise InputError(
            f"{normalisation} with a causal mask would leak the future: it divides by sums over all queries, "
            "later ones included; use Softmax(), or a mask that is not causal"
        )

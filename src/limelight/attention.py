"""Attention: a linear operator that is never stored.

    P_ij = softmax_j(scale · β(q_i, k_j) + b_j),   A @ v = P v

`Attention(q, k, …)` is the matrix P as an object: it can be applied, transposed and measured, all
differentiably and, on the fused kernel, in memory linear in n and m.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight import check, measures
from limelight.errors import InputError
from limelight.heads import per_head, per_row
from limelight.kept import kept
from limelight.kernels import Kernel, Scores, choose, compute, dense_scores, few
from limelight.kernels.part_of_whole import reduce_within
from limelight.kernels.scores import zero_neg_inf
from limelight.kernels.stored import softmax_with_learned_bias
from limelight.linear_operator import LinearOperator
from limelight.mask import Mask, as_mask
from limelight.nonfinite import apply_to_weighted
from limelight.normalization import Normalization, Softmax
from limelight.shapes import broadcast_shapes
from limelight.similarity import Dot, Similarity, is_finite
from limelight.tracing import holds, is_autocast
from limelight.weights import SoftmaxWeights, TopKWeights, Weights

_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


def _apart_from_autocast(
    method: Callable[Concatenate[Attention, _Given], _Returned],
) -> Callable[Concatenate[Attention, _Given], _Returned]:
    """The method, run with autocast off: autocast has set the dtype of q, k and v, and must not round products."""

    @wraps(method)
    def run(self: Attention, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
        if not is_autocast(self.q):
            return method(self, *args, **kwargs)
        with torch.autocast(self.q.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return run


class Attention(LinearOperator):
    """P_ij = softmax_j(scale · β(q_i, k_j) + b_j): a row-stochastic n×m operator that is never stored.

    q (*batch, n, d) and k (*batch, m, d) share dtype and device; batch dimensions broadcast.
    `similarity` is β, `normalization` chooses b, `mask` says which query may see which key
    (True = may), and `scale`, a finite number or a tensor (heads,) of such, overrides the
    similarity's own; a negative one reverses the order of the keys. A query whose keys are all masked has a row of
    zeros.

    The kernel is chosen automatically and shown as `A.kernel`: "sparse" under a `Graph`, "fused" if the
    similarity is an inner product plus two terms and the normalization a row softmax, else "chunked".
    The last two take memory linear in n and m. "reference" stores the matrix. On a GPU in half precision "flex"
    compiles, by FlexAttention, what would else be "chunked", if it is a function of an inner product and of positions
    (`StudentT`, `GAT`, `SoftCap`, `Dot() + ALiBi(…)`): the first call takes seconds, later ones about a tenth of the
    time, and there are no second derivatives. A kernel that you name is used, or `KernelError` is raised.

    Statistics are in at least float32, entropies in nats. Results of one object may share an
    autograd graph: call backward once on their sum, or with `retain_graph=True`.

    Raises `InputError` (shapes, values, a causal mask with a normalization that mixes queries),
    `DtypeError`, `DeviceError`, `KernelError` and `UnknownNameError`.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> q, k, v = torch.randn(3, 1000, 64).unbind()
    >>> A = Attention(q, k, Euclidean(bandwidth=8.0))
    >>> (A @ v).shape, A.entropy().shape, A.T.shape
    (torch.Size([1000, 64]), torch.Size([1000]), (1000, 1000))
    >>> A.kernel
    'fused'
    """

    def __init__(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        similarity: Similarity = Dot(),
        normalization: Normalization = Softmax(),
        mask: Mask | Bool[Tensor, "*#batch #n #m"] | None = None,
        scale: float | Float[Tensor, "*#batch 1 1"] | None = None,
        *,
        kernel: Kernel = "auto",
    ) -> None:
        check.instance("similarity", similarity, Similarity)
        check.instance("normalization", normalization, Normalization)
        check.operands(q, k, similarity.same_width)
        self._autocast = is_autocast(q)
        if self._autocast:  # as torch's own attention does
            q, k = (x.to(torch.get_autocast_dtype(x.device.type)) for x in (q, k))
        self.similarity, self.normalization = similarity, normalization
        self.mask = None if mask is None else as_mask(mask)
        scale = similarity.default_scale(q.shape[-1]) if scale is None else scale
        check.scale(scale, q)
        self.scale = per_head(scale if isinstance(scale, Tensor) else float(scale))
        if not _is_one(normalization.temperature):
            self.scale = self.scale / per_head(normalization.temperature)
        heads = {"the similarity": similarity.batch_shape, "the normalization": normalization.batch_shape}
        self.shape = check.shape(q, k, self.mask, self.scale, heads)
        # Under this mask the same scores may have a form that is computed faster.
        self._similarity = similarity.under(self.mask)
        not_fused = None if normalization.fused else f"{type(normalization).__name__} is not a row softmax"
        self.kernel = choose(kernel, q.device, q.dtype, self._similarity, not_fused, self.mask, self.scale)
        self.q, self.k = q, k
        self._is_automatic = kernel == "auto"
        self._stores_few = self._is_automatic and self.kernel != "sparse" and few.are_few(q)
        if not self._stores_few or self._few_scores is None:  # otherwise finite scores show that q and k are finite
            self.q, self.k = check.finite(q, k, self.mask)
        _refuse_a_leak(self.normalization, self.mask, self.shape, q.device)
        if normalization.needs_symmetry:
            check.symmetric(normalization, self.q, self.k, similarity, self.mask)

    @_apart_from_autocast
    def __matmul__(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """P v: for each query the weighted mean of the rows of v."""
        return self._apply(self.require_values(v))

    @property
    def dtype(self) -> torch.dtype:
        return self.q.dtype

    @property
    def device(self) -> torch.device:
        return self.q.device

    def _cast(self, v: Tensor) -> Tensor:
        return v.to(self.q.dtype) if self._autocast and isinstance(v, Tensor) else v

    def _apply(self, v: Tensor) -> Tensor:
        scores = self._few_scores if self._stores_few else None
        if scores is not None and self._is_row_softmax:
            out = few.product(few.weights_of_few(scores, self.mask), v)
            # A finite output shows that all values are finite, also hidden ones, since 0 · NaN would be NaN.
            if self.mask is None or is_finite(out):
                return self._whole_batch(out, v)
        return self._whole_batch(self._apart(self._apply_to_finite, v, self.mask), v)

    def _apply_to_finite(self, v: Tensor) -> Tensor:
        out = None
        if self._is_automatic and self.kernel == "chunked" and self._is_row_softmax:
            out = softmax_with_learned_bias(self.q, self.k, v, self.similarity, self.scale, self.mask)
        return self.weights().apply(v) if out is None else out

    @property
    def _is_row_softmax(self) -> bool:
        """True if P is the softmax of the scores, with nothing added to them."""
        return type(self.normalization) is Softmax and not self.normalization.uses_column_sums

    @_apart_from_autocast
    def apply_with_logsumexp(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*batch n e"], Float[Tensor, "*batch n"]]:
        """(P v, log-normalizers) in one pass over the keys: the results of `A @ v` and `A.logsumexp()`.

        From these, attention to two sets of keys can be merged exactly: with L = log(e^L₁ + e^L₂) the output over
        both sets is e^(L₁ − L) P₁v₁ + e^(L₂ − L) P₂v₂. Raises as `logsumexp` does.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> out, lse = Attention(x, x, scale=1.0).apply_with_logsumexp(torch.arange(4.0)[:, None])
        >>> out[0], lse[0]
        (tensor([1.5000]), tensor(1.3863))
        """
        v = self.require_values(v)
        normalizers: list[Tensor] = []

        def apply(v: Tensor) -> Tensor:
            out, lse = self.weights().apply_with_logsumexp(v)
            normalizers.append(lse)
            return out

        out = self._whole_batch(self._apart(apply, v, self.mask), v)
        return out, normalizers[0].expand(out.shape[:-1])

    @_apart_from_autocast
    def apply_within(
        self, v: Float[Tensor, "*#batch m e"], out: Float[Tensor, "*batch n e"], lse: Float[Tensor, "*batch n"]
    ) -> tuple[Float[Tensor, "*batch n e"], Float[Tensor, "*batch n"]]:
        """(out, lse) of attention to more keys than these, as a function of these keys: for gradients in parts.

        `out` and `lse` are what `apply_with_logsumexp` gives for all keys, and the results are the same numbers. Their
        gradients for q, k and v are what these keys contribute, without another forward pass. So a backward pass may
        see some of the keys at a time. There are no second derivatives. Raises as `logsumexp` does.

        >>> import torch
        >>> from limelight import Attention
        >>> q, k, v = torch.eye(2), torch.eye(2, requires_grad=True), torch.ones(2, 1)
        >>> out, lse = Attention(q, k).apply_with_logsumexp(v)
        >>> part = Attention(q, k[:1]).apply_within(v[:1], out.detach(), lse.detach())[1]
        >>> whole, some = (torch.autograd.grad(x.sum(), k)[0] for x in (lse, part))
        >>> torch.allclose(whole[0], some[0]), some[1]
        (True, tensor([0., 0.]))
        """
        weights = self.weights()
        if not isinstance(weights, SoftmaxWeights):
            weights.logsumexp()  # raises
        if not is_finite(v):  # where such a value has weight, out is not finite either
            v = v.masked_fill(~v.isfinite(), 0)
        return reduce_within(weights.scores, v, out, lse)

    @_apart_from_autocast
    def apply_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*batch n e"]:
        """(D ∘ P) v, where D_ij = 0 with probability p and 1/(1 − p) otherwise, drawn again at each call.

        Weights are dropped a few rows at a time, or along the edges of a graph. For a small matrix torch's own
        attention is used, which stores it.
        """
        v, weights = self.require_values(v), self.weights()
        out = self._apart(lambda v: weights.apply_with_dropout(v, p), v, self.mask)
        return self._whole_batch(out, v)

    @_apart_from_autocast
    def logsumexp(self) -> Float[Tensor, "*batch n"]:
        """L_i = log Σ_j exp(s_ij + b_j), so that P_ij = exp(s_ij + b_j − L_i); −∞ where every key is masked.

        Raises `InputError` for a normalization that is not one softmax of scores (`Entmax`, `TopK`,
        `Sigmoid`, `Hybrid`).

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> A = Attention(x, x, scale=1.0)
        >>> A.logsumexp()
        tensor([1.3863, 1.3863, 1.3863, 1.3863])
        """
        return self._logsumexp

    @_apart_from_autocast
    def entropy(self) -> Float[Tensor, "*batch n"]:
        """H_i = −Σ_j p_ij log p_ij in nats: the weight of query i spreads over about exp H_i keys. 0 if all are masked.

        p_i are the weights of query i divided by their sum, which is one for all normalizations but `Sigmoid`.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> A = Attention(x, x, scale=1.0)
        >>> A.entropy()  # log 4 nats: all four keys have the same weight
        tensor([1.3863, 1.3863, 1.3863, 1.3863])
        """
        return self._full(self.weights().entropy(), -2)

    @_apart_from_autocast
    def column_mass(self) -> Float[Tensor, "*batch m"]:
        """Σ_i P_ij: the weight that all queries together give key j.

        If rows sum to one, the masses sum to the number of queries that see a key. With `Sigmoid` rows do not sum to
        one, and they are not divided by their sums here.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> A = Attention(x, x, scale=1.0)
        >>> A.column_mass()
        tensor([1., 1., 1., 1.])
        """
        return self._full(self.weights().column_mass(), -1)

    @_apart_from_autocast
    def free_energy(self) -> Float[Tensor, "*batch n"]:
        """F_i = −τ L_i, with energy E_ij = −τ (s_ij + b_j) and τ = T/scale, T the temperature of the normalization.

        Without key biases E_ij = −β(q_i, k_j) for every τ. F_i is the minimum over the simplex of
        Σ_j p_j E_ij − τ H(p), attained at p = P_i; so F = mean energy − τ · entropy for each row. For weights that are
        not a softmax this equation defines F, with rows divided by their sums. +∞ where every key is masked.

        Raises `InputError` if the scale is not positive, since then there is no temperature.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> A = Attention(x, x, scale=1.0)
        >>> A.free_energy()  # −log 4
        tensor([-1.3863, -1.3863, -1.3863, -1.3863])
        """
        scale = per_row(self.scale)
        if not (holds((scale > 0).all()) if isinstance(scale, Tensor) else scale > 0):
            raise InputError(f"free_energy() expects a scale > 0, since its temperature is T/scale; got {self.scale!r}")
        # Where every key is masked, L = −∞, and in the gradient of a learned scale 0 · ∞ would be NaN.
        potential = self._potential
        return (-zero_neg_inf(potential) / scale).masked_fill(potential == -math.inf, math.inf)

    @_apart_from_autocast
    def mean_position(self) -> Float[Tensor, "*batch n"]:
        """Σ_j p_ij j: the mean position of the keys, weighted by p_i, the weights of query i divided by their sum.

        0 where every key is masked.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> A = Attention(x, x, scale=1.0)
        >>> A.mean_position()  # the mean of 0, 1, 2, 3
        tensor([1.5000, 1.5000, 1.5000, 1.5000])
        """
        return self._full(measures.mean_position(self.weights()), -2)

    @_apart_from_autocast
    def mean_distance(self, offset: int = 0) -> Float[Tensor, "*batch n"]:
        """Σ_j p_ij |i + offset − j|: the mean distance of the keys, weighted by p_i, the weights divided by their sum.

        Query i stands at position i + offset, key j at position j. 0 where every key is masked.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(4, 2)
        >>> A = Attention(x, x, scale=1.0)
        >>> A.mean_distance()
        tensor([1.5000, 1.0000, 1.0000, 1.5000])
        """
        return self._full(measures.mean_distance(self.weights(), offset), -2)

    @_apart_from_autocast
    def topk(self, k: int) -> TopKWeights:
        """The k largest weights of each query and their keys, both (*batch, n, k), largest first.

        The key is −1 where fewer than k keys have any weight. Raises `InputError` for k outside 1 … m.

        >>> import torch
        >>> from limelight import Attention, Dot
        >>> q, k = torch.ones(1, 1), torch.tensor([[0.0], [2.0], [1.0]])
        >>> Attention(q, k, scale=1.0).topk(2).keys
        tensor([[1, 2]])
        """
        weights, keys = measures.topk(self.weights(), k)
        whole = (*self.shape[:-1], k)
        return TopKWeights(weights.expand(whole), keys.expand(whole))

    @_apart_from_autocast
    def irreversibility(self) -> Float[Tensor, "*batch"]:
        """½ Σ_ij |π_i P_ij − π_j P_ji|, πP = π: the distance from detailed balance, 0 (reversible) to 1. No gradient.

        A symmetric similarity gives 0 with a row softmax; queries and keys from different matrices do not.
        Raises `InputError` if n ≠ m, the mask is not symmetric or rows do not sum to one, and
        `ConvergenceError` if the stationary distribution π is not found.

        >>> import torch
        >>> from limelight import Attention, Bias
        >>> round_trip = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])  # 0 → 1 → 2 → 0
        >>> x = torch.zeros(3, 1)
        >>> Attention(x, x, Bias(round_trip)).irreversibility().round(decimals=2)
        tensor(1.)
        """
        value = measures.irreversibility(self.weights(), self.mask, self.q.device)
        return value.expand(self.shape[:-2])

    @_apart_from_autocast
    def dense(self) -> Float[Tensor, "*batch n m"]:
        """The matrix P, n×m, from the reference kernel and in q's dtype: for pictures, or for small n and m.

        >>> import torch
        >>> from limelight import Attention
        >>> x = torch.zeros(2, 1)
        >>> Attention(x, x).dense()
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
        """
        scores = dense_scores(self.q, self.k, self.similarity, self.scale, self.mask)
        weights = self.normalization(scores).block(slice(0, self.shape[-2]))
        return weights.expand(self.shape).to(self.q.dtype)

    def __repr__(self) -> str:
        mask = "" if self.mask is None else f", mask={self.mask!r}"
        return f"Attention({self.shape}, {self.similarity}, {self.normalization}{mask}, kernel={self.kernel!r})"

    def weights(self) -> Weights:
        """The `Weights` that represent P: they apply and transpose it, and compute some rows of it at a time."""
        return self._weights

    @kept
    def _weights(self) -> Weights:
        return self.normalization(self._scores())

    @kept
    def _few_scores(self) -> Tensor | None:
        """All scores, if there are few queries and the scores are finite; otherwise None."""
        return few.scores_of_few(self.q, self.k, self.similarity, self.scale)

    @kept
    def _logsumexp(self) -> Tensor:
        return self._full(self.weights().logsumexp(), -2)

    @kept
    def _potential(self) -> Tensor:
        return self._full(self.weights().potential(), -2)

    def _scores(self) -> Scores:
        kernel = "reference" if 0 in self.shape else self.kernel  # an empty matrix can as well be stored
        similarity = self.similarity if kernel == "reference" else self._similarity
        return compute(kernel, self.q, self.k, similarity, self.scale, self.mask)

    @_apart_from_autocast
    def _apply_transposed(self, w: Tensor) -> Tensor:
        mask = None if self.mask is None else self.mask.T
        return self._whole_batch(self._apart(self.weights().apply_transposed, w, mask), w)

    def _apart(self, apply: Callable[[Tensor], Tensor], values: Tensor, mask: Mask | None) -> Tensor:
        """apply(values), where values without weight have no effect, even NaN. Without a mask all have weight."""
        if mask is None and self.normalization.fused:
            return apply(values)
        return apply_to_weighted(apply, values, mask)

    def _whole_batch(self, out: Tensor, values: Tensor) -> Tensor:
        """The output with every batch dimension, also where it was computed once for all (a bias of positions, say)."""
        if out.shape[:-2] == self.shape[:-2] and out.ndim >= values.ndim:
            return out
        batch = broadcast_shapes(self.shape[:-2], values.shape[:-2])
        return out if out.shape[:-2] == batch else out.expand(*batch, *out.shape[-2:])

    def _full(self, statistic: Tensor, length: int) -> Tensor:
        return statistic.expand(*self.shape[:-2], self.shape[length])


def _is_one(temperature: float | Tensor) -> bool:
    return not isinstance(temperature, Tensor) and temperature == 1


def _refuse_a_leak(
    normalization: Normalization, mask: Mask | None, shape: tuple[int, ...], device: torch.device
) -> None:
    if mask is not None and normalization.uses_column_sums and mask.is_causal(shape[-2], shape[-1], device):
        raise InputError(
            f"{normalization} with a causal mask would leak the future: it divides by sums over all queries, "
            "later ones included; use Softmax(), or a mask that is not causal"
        )

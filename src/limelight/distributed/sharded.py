"""Attention over a sequence whose rows are on several processes: `attend`, and the operator `ShardedAttention`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight import check
from limelight.distributed.agreement import lengths_of_all
from limelight.distributed.order import Order, count, parts_of_queries, pieces, require_order, runs
from limelight.distributed.passes import Plan, columns, entropy, rows
from limelight.distributed.ring import Group, Ring
from limelight.distributed.sharded_mask import ShardedMask
from limelight.errors import InputError, LimelightError
from limelight.heads import SHARE, per_head, per_row, require
from limelight.heads_operator import heads_differ, require_groups
from limelight.kept import kept
from limelight.kernels.scores import zero_neg_inf
from limelight.mask import Mask, as_mask, causal
from limelight.normalization import Hybrid, LearnedSoftmax, Normalization, Sinkhorn, Softmax
from limelight.similarity import Bias, Dot, Forgetting, Positional, Similarity, squeeze_head
from limelight.tracing import is_autocast

# Modules whose result for a token depends on other tokens or on chance.
_OF_SEVERAL_TOKENS = (nn.Dropout, nn.AlphaDropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ShardedAttention:
    """P_ij = softmax_j(scale · β(q_i, k_j) + b_j) over all ranks' keys, for the queries of this rank.

    As `Attention`, for a sequence whose rows are dealt to the ranks of a process group: q (*batch, n, d) and
    k (*batch, m, d) are this rank's rows, and so are the results. n and m may differ between ranks and may be 0. No
    rank gathers keys: they travel round the ring of ranks, with their values and key terms, and each rank keeps a
    running output and log-sum-exp for its queries. `attend` explains the arguments, gradients and errors.

    Every rank must call the same methods in the same order, and backward too.

    >>> import torch
    >>> import torch.distributed as dist
    >>> from limelight.distributed import ShardedAttention
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> x = torch.zeros(4, 2)
    >>> A = ShardedAttention(x, x)
    >>> A.entropy(), A.column_mass()
    (tensor([1.3863, 1.3863, 1.3863, 1.3863]), tensor([1., 1., 1., 1.]))
    >>> dist.destroy_process_group()
    """

    def __init__(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        similarity: Similarity = Dot(),
        normalization: Normalization = Softmax(),
        mask: Mask | None = None,
        scale: float | Tensor | None = None,
        *,
        enable_gqa: bool = False,
        group: Group = None,
        order: Order | None = None,
        timeout: float = 300.0,
    ) -> None:
        self._ring = Ring(group, timeout, q.device if isinstance(q, Tensor) else None)
        self._normalization = normalization
        call = _Call(q, k, similarity, normalization, mask, scale, enable_gqa)
        refused = call.problem() or _problem_of_order(order, call, self._ring.size)
        facts = {} if refused else {**call.facts(), "order": order}
        n, m = (0, 0) if refused else (q.shape[-2], k.shape[-2])
        lengths = lengths_of_all(self._ring, n, m, facts, refused)
        self._groups = call.groups
        self._q, self._k = call.q, call.k
        self._plan = _plan(self._ring, call, order, lengths)

    def __matmul__(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        """P v for this rank's queries: v are this rank's rows of the values, which travel with its keys."""
        v, k = self._values(v), self._k
        if not isinstance(self._normalization, Hybrid):
            return self._flat(rows(self._plan, self._q, k, v, self._term)[0], 2)
        share = torch.sigmoid(squeeze_head(self._normalization.logit))
        plain, double = (rows(self._plan, self._q, k, v, term)[0] for term in (None, self._term))
        return self._flat((share * plain + (1 - share) * double).to(v.dtype), 2)

    def logsumexp(self) -> Float[Tensor, "*batch n"]:
        """L_i = log Σ_j exp(s_ij + b_j) over the keys of all ranks, as `Attention.logsumexp`; −∞ if all are masked."""
        self._require_one_softmax("logsumexp")
        return self._flat(self._logsumexp, 1)

    def entropy(self) -> Float[Tensor, "*batch n"]:
        """−Σ_j p_ij log p_ij in nats over the keys of all ranks, as `Attention.entropy`; 0 if all are masked."""
        self._require_one_softmax("entropy")
        return self._flat(entropy(self._plan, self._q, self._k, self._term), 1)

    def free_energy(self) -> Float[Tensor, "*batch n"]:
        """F_i = −(T/scale) L_i, as `Attention.free_energy`. Raises `InputError` if the scale is not positive."""
        self._require_one_softmax("free_energy")
        given = self._plan.scale
        scale = per_row(self._plan.similarity.default_scale(self._q.shape[-1]) if given is None else given)
        if not (bool((scale > 0).all()) if isinstance(scale, Tensor) else scale > 0):
            raise InputError(f"free_energy() expects a scale > 0, since its temperature is T/scale; got {scale!r}")
        return self._flat(-self._logsumexp * per_row(self._plan.temperature) / scale, 1)

    def column_mass(self) -> Float[Tensor, "*batch m"]:
        """Σ_i P_ij for this rank's keys, over the queries of all ranks, as `Attention.column_mass`."""
        if not isinstance(self._normalization, Hybrid):
            return self._flat(self._mass(self._term), 1)
        share = torch.sigmoid(squeeze_head(self._normalization.logit))[..., 0]
        return self._flat(share * self._mass(None) + (1 - share) * self._mass(self._term), 1)

    def _mass(self, term: Tensor | None) -> Tensor:
        # log P_ij = s_ij + b_j − L_i, so Σ_i P_ij = exp(b_j + c_j), where c_j is a column sum with the row bias −L.
        lse = rows(self._plan, self._q, self._k, self._k[..., :0], term)[1]
        mass = columns(self._plan, self._q, self._k, -zero_neg_inf(lse))
        return (mass if term is None else mass + term[..., 0]).exp()

    @kept
    def _logsumexp(self) -> Tensor:
        return rows(self._plan, self._q, self._k, self._k[..., :0], self._term)[1]

    @kept
    def _term(self) -> Float[Tensor, "*batch m 1"] | None:
        """The bias b_j that the normalization gives this rank's keys, from column sums over all ranks."""
        normalization = self._normalization
        if not normalization.uses_column_sums:
            return None
        sums = zero_neg_inf(columns(self._plan, self._q, self._k, None))
        if isinstance(normalization, Softmax):
            alpha = per_head(normalization.alpha)
            alpha = alpha.reshape(alpha.shape[:-1] or (1,)) if isinstance(alpha, Tensor) else alpha
            return (-alpha * sums)[..., None]
        # Sinkhorn's iteration, as `Sinkhorn.key_bias` has it: columns, then rows and columns again.
        for _ in range(normalization.steps - 1 if isinstance(normalization, Sinkhorn) else 0):
            lse = rows(self._plan, self._q, self._k, self._k[..., :0], -sums[..., None])[1]
            sums = zero_neg_inf(columns(self._plan, self._q, self._k, -zero_neg_inf(lse)))
        return -sums[..., None]

    def _values(self, v: Tensor) -> Tensor:
        """v beside the keys, after all ranks agree on it."""
        refused: LimelightError | None = None
        batch, m = self._given_batch, self._k.shape[-2]
        try:
            if is_autocast(self._q) and isinstance(v, Tensor):
                v = v.to(self._q.dtype)
            check.values("v", v, self._q.dtype, self._q.device, m, batch)
        except LimelightError as error:
            refused = error
        facts = {} if refused else {"batch and width of v": (*v.shape[:-2], v.shape[-1]), "v's gradient": _learns(v)}
        lengths_of_all(self._ring, self._q.shape[-2], m, facts, refused)
        return v if self._groups is None else v.unsqueeze(-3)

    @property
    def _given_batch(self) -> tuple[int, ...]:
        """The batch dimensions that values must broadcast with: those of the keys, if these have fewer heads."""
        grouped = self._groups is not None or self._plan.repeat > 1
        k = self._k if self._groups is None else self._k.squeeze(-3)
        return tuple(k.shape[:-2]) if grouped else self._plan.batch

    def _flat(self, x: Tensor, dims: int) -> Tensor:
        """(…, H/g, g, …) → (…, H, …), where `dims` dimensions follow the heads."""
        return x if self._groups is None else x.flatten(-2 - dims, -1 - dims)

    def _require_one_softmax(self, measure: str) -> None:
        if isinstance(self._normalization, Hybrid):
            raise InputError(
                f"{measure}() needs weights that are one softmax, and Hybrid's are two; use Softmax(alpha)"
            )

    def __repr__(self) -> str:
        plan = self._plan
        return f"ShardedAttention(rank {plan.ring.rank} of {plan.ring.size}, {plan.similarity}, {self._normalization})"


def attend(
    query: Float[Tensor, "*#batch n d"],
    key: Float[Tensor, "*#batch m d"],
    value: Float[Tensor, "*#batch m e"],
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | Tensor | None = None,
    enable_gqa: bool = False,
    *,
    similarity: Similarity = Dot(),
    normalization: Normalization = Softmax(),
    group: Group = None,
    order: Order | None = None,
    timeout: float = 300.0,
) -> Float[Tensor, "*batch n e"]:
    """This rank's rows of Attention(query, key, …) @ value, for a sequence whose rows are dealt to several processes.

    query, key and value are the rows of this rank of `group`: a process group, a `DeviceMesh` of one dimension, or None
    for the default group. Every rank makes the same call, and calls backward too. Lengths may differ between ranks.
    Keys and values travel round the ring of ranks, and in the backward pass again, together with their gradients. A
    rank holds its own rows and a few pieces of those of others, and nothing n × n.

    `mask` is `causal`, a `window`, `padding`, `documents`, or several of them joined by &. Padding and documents are
    those of this rank's rows. Where positions count (a causal mask, a window, ALiBi), `order` says which rows the ranks
    have: "zigzag" as `shard` deals them, which gives all ranks equal work under a causal mask, or "contiguous", one run
    each in the order of the ranks. `normalization` is Softmax(alpha), Sinkhorn(steps) or Hybrid: the sums over queries
    that they divide by travel with their keys.

    A parameter of the similarity or the normalization gets on each rank a part of its gradient; the sum of the parts
    over ranks is the whole. `DistributedDataParallel` takes the mean, so multiply the loss by the number of ranks
    there. There are no second derivatives.

    Raises what `limelight.attend` raises, and `InputError` for what cannot be sharded (a boolean array, a table of
    biases, other normalizations), for ranks whose dtypes, heads or widths differ, and without a process group. Input
    that one rank refuses raises on all of them. `ClusterError` names the rank that ends, or that does not answer within
    `timeout` seconds; with NCCL the time-out is that of the group.

    >>> import torch
    >>> import torch.distributed as dist
    >>> from limelight import Euclidean, distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> q, k, v = (distributed.shard(x) for x in torch.randn(3, 8, 16, 64))
    >>> distributed.attend(q, k, v, is_causal=True, order="zigzag", similarity=Euclidean(8.0)).shape
    torch.Size([8, 16, 64])
    >>> dist.destroy_process_group()
    """
    if is_causal:
        mask = causal if mask is None else as_mask(mask) & causal
    return (
        ShardedAttention(
            query, key, similarity, normalization, mask, scale, enable_gqa=enable_gqa, group=group, order=order,
            timeout=timeout,
        )
        @ value
    )  # fmt: skip


class _Call:
    """The arguments of a call, as this rank has them: first checked, then compared with those of the other ranks."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        similarity: Similarity,
        normalization: Normalization,
        mask: Mask | None,
        scale: float | Tensor | None,
        grouped: bool,
    ) -> None:
        self.q, self.k, self.similarity, self.normalization, self.scale = q, k, similarity, normalization, scale
        self.given_mask, self.grouped = mask, grouped
        self.groups: int | None = None
        self.repeat, self.batch, self.mask = 1, tuple[int, ...](), ShardedMask(())

    def problem(self) -> LimelightError | None:
        """The error of arguments that this rank refuses; otherwise None, and they are ready."""
        try:
            self._prepare()
        except LimelightError as error:
            return error
        return None

    def _prepare(self) -> None:
        check.instance("similarity", self.similarity, Similarity)
        check.instance("normalization", self.normalization, Normalization)
        check.operands(self.q, self.k, self.similarity.same_width)
        _require_shardable(self.similarity, self.normalization)
        if is_autocast(self.q):
            self.q, self.k = (x.to(torch.get_autocast_dtype(x.device.type)) for x in (self.q, self.k))
        mask = None if self.given_mask is None else as_mask(self.given_mask)
        ShardedMask.of(mask)
        mask = self._arrange_heads(mask)
        self.mask = ShardedMask.of(mask)
        scale = self.similarity.default_scale(self.q.shape[-1]) if self.scale is None else self.scale
        check.scale(scale, self.q)
        heads = {"similarity": self.similarity.batch_shape, "normalization": self.normalization.batch_shape}
        k = self.k if self.repeat == 1 else self.k.repeat_interleave(self.repeat, -3)
        self.batch = check.shape(self.q, k, mask, per_head(scale), heads)[:-2]
        self.q, self.k = check.finite(self.q, self.k, mask)

    def _arrange_heads(self, mask: Mask | None) -> Mask | None:
        """Put query heads in groups that share a key head, or note that keys are repeated where they arrive."""
        if not self.grouped:
            return mask
        q, k = self.q, self.k
        require_groups(q, k, "key")
        if q.shape[-3] == k.shape[-3]:
            return mask
        if heads_differ(self.similarity, self.normalization, mask, self.scale, q.shape[-1]):
            self.repeat = q.shape[-3] // k.shape[-3]  # heads of one group differ in more than their queries
            return mask
        self.groups = k.shape[-3]
        self.q, self.k = q.unflatten(-3, (self.groups, -1)), k.unsqueeze(-3)
        return None if mask is None else mask.for_groups()

    @property
    def uses_positions(self) -> bool:
        return self.mask.uses_positions or any(isinstance(part, Positional) for part in self.similarity.modules())

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """What the scores depend on beside queries and keys, and learns."""
        given = [*self.similarity.parameters(), self.scale, self.normalization.temperature]
        return tuple({id(x): x for x in given if isinstance(x, Tensor) and x.requires_grad}.values())

    def facts(self) -> dict[str, object]:
        """What must be equal on all ranks, by name."""
        scale = tuple(self.scale.shape) if isinstance(self.scale, Tensor) else self.scale
        return {
            "dtype": self.q.dtype,
            "kind of device": self.q.device.type,
            "batch and width of q": (*self.q.shape[:-2], self.q.shape[-1]),
            "batch and width of k": (*self.k.shape[:-2], self.k.shape[-1]),
            "similarity": [type(part).__name__ for part in self.similarity.modules()],
            "normalization": self.normalization,
            "mask": ([*self.mask.parts], [(x.dtype, *x.shape[:-2]) for x in self.mask.of_keys]),
            "scale": scale,
            "choice of what learns": (_learns(self.q), _learns(self.k), torch.is_grad_enabled() and len(self.learned)),
        }


def _plan(ring: Ring, call: _Call, order: Order | None, lengths: list[tuple[int, int]]) -> Plan:
    """The plan of a call, given the numbers of queries and keys of all ranks."""
    every_n, every_m = ([pair[side] for pair in lengths] for side in (0, 1))
    if call.normalization.uses_column_sums and call.mask.leaks(sum(every_n), sum(every_m), call.q.device):
        raise InputError(
            f"{call.normalization} with a causal mask would leak the future: it divides by sums over all queries, "
            "later ones included; use Softmax(), or a mask that is not causal"
        )
    dealt = order if order is not None and call.uses_positions else "contiguous"
    queries, keys = runs(dealt, every_n, "queries"), runs(dealt, every_m, "keys")
    return Plan(
        ring, call.similarity, call.scale, call.normalization.temperature, call.mask, queries[ring.rank],
        parts_of_queries(queries, ring.rank), pieces(keys, ring.rank, count(ring.size, keys)), call.learned, call.batch,
        call.repeat,
    )  # fmt: skip


def _problem_of_order(order: str | None, call: _Call, size: int) -> LimelightError | None:
    try:
        if order is not None:
            require_order(order)
        elif size > 1 and call.uses_positions:
            raise InputError(
                "positions count here, so say which rows the ranks have: order='zigzag' if they were dealt by "
                "shard(x), order='contiguous' if each rank has one run of rows"
            )
    except LimelightError as error:
        return error
    return None


def _require_shardable(similarity: Similarity, normalization: Normalization) -> None:
    """Raise `InputError` unless blocks of both can be computed from the tokens of two ranks."""
    for part in similarity.modules():
        if isinstance(part, Bias | Forgetting):
            raise InputError(
                f"{type(part).__name__} holds numbers for the whole sequence, and they are not dealt to the ranks; use "
                "a similarity of contents, ALiBi or RelativeBias"
            )
        if part.training and isinstance(part, _OF_SEVERAL_TOKENS):
            raise InputError(
                f"{type(part).__name__} in training mode gives a key other features on each rank that it visits; call "
                ".eval() on it, or leave it out of the similarity"
            )
    if type(normalization) not in (Softmax, LearnedSoftmax, Sinkhorn, Hybrid):  # a subclass may define other weights
        raise InputError(f"{normalization!r} cannot be sharded; use Softmax(alpha), Sinkhorn(steps) or Hybrid")
    if isinstance(normalization, Softmax) and isinstance(normalization.alpha, Tensor):
        require("Softmax(alpha=…)", normalization.alpha, SHARE)  # a learned one may have left the range
    if isinstance(normalization, Sinkhorn) and normalization.tolerance is not None:
        raise InputError("Sinkhorn(tolerance=…) cannot be sharded, since each rank would stop by itself; give steps=")


def _learns(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad

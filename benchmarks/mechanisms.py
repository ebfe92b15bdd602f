"""The mechanisms of Limelight that are measured, with targets, which are ratios to torch's own attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contender import CAUSAL, SDPA, Contender, Mechanism, Setting
from limelight import (
    GAT,
    ALiBi,
    Attention,
    Cosine,
    DifferentialAttention,
    Dot,
    Entmax,
    Euclidean,
    Forgetting,
    Hybrid,
    LocalLinear,
    Metric,
    RelativeBias,
    ScalableSoftmax,
    Sigmoid,
    Sinkhorn,
    SoftCap,
    Softmax,
    SoftmaxWithSink,
    Sparsemax,
    StudentT,
    TopK,
    attend,
    causal,
)

INNER, ALPHA, SINKHORN, SCORES = 1.10, 2.1, 6.5, 1.8  # time over SDPA's
STATISTICS = 2.2  # time over A @ v

HALF = 2  # divides the length where the full length would take a minute for each run

APPLIED = "A @ v"
Arguments = Callable[[int, int], dict[str, Any]]  # (heads, d) ↦ the arguments of `attend`


def _row(name: str, arguments: Arguments, target: float | None = None, over: str = SDPA, shrink: int = 1) -> Contender:
    return Contender(name, partial(_attend, arguments), over, target, shrink, kernel=partial(_kernel, arguments))


def _attend(arguments: Arguments, setting: Setting) -> Mechanism:
    return partial(attend, **_on(setting, arguments))


def _kernel(arguments: Arguments, setting: Setting) -> str:
    q, *_ = setting.of_length(4).tensors()
    return Attention(q, q, **_on(setting, arguments)).kernel


def _on(setting: Setting, arguments: Arguments) -> dict[str, Any]:
    given = arguments(setting.shape[1], setting.shape[3])
    for part in given.values():
        if isinstance(part, nn.Module):
            part.to(setting.device)
    return given


def _position(reach: int, heads: int) -> RelativeBias:
    bias = RelativeBias(reach, heads)
    nn.init.normal_(bias.table)  # it is initialized with zeros, which would be no bias
    return bias


OF_PAIRS: dict[str, Arguments] = {  # scores that are no inner product, but a function of one and of positions
    "SoftCap(50)": lambda h, d: {"similarity": SoftCap(Dot(), 50.0)},
    "StudentT": lambda h, d: {"similarity": StudentT()},
    "Dot + ALiBi": lambda h, d: {"similarity": Dot() + ALiBi(h)},
    "Dot + RelativeBias(64)": lambda h, d: {"similarity": Dot() + _position(64, h)},
    "GAT": lambda h, d: {"similarity": GAT(d)},
}
_TARGETS = {"SoftCap(50)": None}  # of time over SDPA's, where it is not `SCORES`


def _rows() -> list[Contender]:
    return [
        _row("Dot", lambda h, d: {}),
        _row("Cosine", lambda h, d: {"similarity": Cosine()}, INNER),
        _row("Euclidean", lambda h, d: _gaussian(d), INNER),
        _row("Metric, φ = identity", lambda h, d: {"similarity": Metric(nn.Identity()), "scale": 1 / d}, INNER),
        _row("Dot, α = 1", lambda h, d: {"normalization": Softmax(1.0)}, ALPHA),
        _row("Euclidean, α = 1", lambda h, d: _gaussian(d) | {"normalization": Softmax(1.0)}, ALPHA),
        _row("Hybrid", lambda h, d: {"normalization": Hybrid(h)}),
        _row("Sinkhorn(3)", lambda h, d: {"normalization": Sinkhorn(3)}, SINKHORN),
        _row("SoftmaxWithSink", lambda h, d: {"normalization": SoftmaxWithSink.learned(h)}),
        *(_row(name, arguments, _TARGETS.get(name, SCORES)) for name, arguments in OF_PAIRS.items()),
        _row("Sparsemax", lambda h, d: {"normalization": Sparsemax()}, shrink=HALF),
        _row("Entmax(1.5)", lambda h, d: {"normalization": Entmax(1.5)}, shrink=HALF),
        _row("TopK(32)", lambda h, d: {"normalization": TopK(32)}, shrink=HALF),
        _row("Sigmoid", lambda h, d: {"normalization": Sigmoid()}),
        _row("Dot + ALiBi, causal", lambda h, d: {"similarity": Dot() + ALiBi(h), "mask": causal}, SCORES, CAUSAL),
        _forgetting(),
        Contender("LocalLinear, d = 2", lambda _: _fitted, kernel=lambda _: "fused"),
        Contender("DifferentialAttention", lambda _: _difference, kernel=lambda _: "fused"),
        _row("ScalableSoftmax, causal", lambda h, d: _scalable(h), None, CAUSAL),
    ]


def _forgetting() -> Contender:
    """Gates of about one half, as those of an untrained model, one for each token and head."""

    def build(setting: Setting) -> Mechanism:
        batch, heads, n, _ = setting.shape
        gates = torch.nn.functional.logsigmoid(torch.linspace(-1, 1, n)).expand(batch, heads, n).to(setting.device)
        return partial(attend, similarity=Dot() + Forgetting(gates), mask=causal)

    def kernel(setting: Setting) -> str:
        q, *_ = setting.of_length(4).tensors()
        return Attention(q, q, Dot() + Forgetting(torch.zeros(4, device=setting.device)), mask=causal).kernel

    return Contender("Dot + Forgetting, causal", build, CAUSAL, kernel=kernel)


def _fitted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The first two columns of queries and keys as points in the plane."""
    return LocalLinear(Attention(q[..., :2], k[..., :2], Euclidean(1.0))) @ v


def _difference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries and keys are split into halves, as in the paper."""
    first, second = (Attention(*half) for half in zip(q.chunk(2, -1), k.chunk(2, -1), strict=True))
    return DifferentialAttention(first, second, 0.2) @ v


def _scalable(h: int) -> dict[str, Any]:
    return {"normalization": ScalableSoftmax.learned(h), "mask": causal}


def _gaussian(d: int) -> dict[str, Any]:
    return {"similarity": Euclidean(math.sqrt(d))}


def _applied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return Attention(q, k) @ v


def _measured(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    A = Attention(q, k)
    return A @ v, A.entropy(), A.column_mass(), A.free_energy()


def _on_flex() -> list[Contender]:
    """The mechanisms that FlexAttention compiles for a GPU, where there is one."""
    if not torch.cuda.is_available():
        return []
    torch._dynamo.config.recompile_limit = 64  # each is compiled for two lengths, with and without a derivative
    return [
        replace(_row(f"{name}, flex", partial(_with_flex, arguments)), compiled=True)
        for name, arguments in OF_PAIRS.items()
    ]


def _with_flex(arguments: Arguments, h: int, d: int) -> dict[str, Any]:
    return arguments(h, d) | {"kernel": "flex"}


MECHANISMS = {row.name: row for row in (*_rows(), *_on_flex())}

# The cost of the measures, compared with A @ v instead of SDPA, and without gradients.
MEASURED = Contender(
    "A @ v, entropy, column mass, free energy",
    lambda _: _measured,  # type: ignore[arg-type, return-value]
    over=APPLIED,
    target=STATISTICS,
    trains_on=(),
)
APPLIED_ALONE = Contender(APPLIED, lambda _: _applied, trains_on=())

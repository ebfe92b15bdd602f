"""Other packages that compute the same: dense PyTorch, x-transformers, entmax, POT, KeOps and FlexAttention.

They are called as their documentation says. Each is imported when it is built, so that a package that is not installed
is skipped with the reason. A peer runs at n / shrink if the full length would take minutes; so does its baseline.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from benchmarks.contender import Contender, Mechanism, Setting
from benchmarks.limit import LIMIT

QUARTER = 4


def _softmax(setting: Setting) -> Mechanism:
    scale = 1 / math.sqrt(setting.shape[3])
    return lambda q, k, v: (q @ k.mT * scale).softmax(-1) @ v


def _cdist(setting: Setting) -> Mechanism:
    scale = 1 / (2 * setting.shape[3])

    def apply(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # cdist does not support bfloat16.
        return (-scale * torch.cdist(q.float(), k.float()).square()).softmax(-1).to(v.dtype) @ v

    return apply


def _x_transformers(setting: Setting) -> Mechanism:
    from x_transformers.attend import Attend

    attend = Attend(heads=setting.shape[1], scale=1 / (2 * setting.shape[3]), flash=True, l2_distance=True)
    return lambda q, k, v: attend(q, k, v)[0]


def _sparsemax(setting: Setting) -> Mechanism:
    from entmax import sparsemax

    return _weighing(setting, sparsemax)


def _entmax15(setting: Setting) -> Mechanism:
    from entmax import entmax15

    return _weighing(setting, entmax15)


def _weighing(setting: Setting, normalize: Callable[..., Tensor]) -> Mechanism:
    scale = 1 / math.sqrt(setting.shape[3])
    return lambda q, k, v: normalize(q @ k.mT * scale, dim=-1) @ v


def _pot(setting: Setting) -> Mechanism:
    import ot

    scale = 1 / math.sqrt(setting.shape[3])

    def one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cost = -(q.float() @ k.float().mT) * scale
        plan = ot.bregman.sinkhorn_log([], [], cost, reg=1.0, numItermax=3, stopThr=0, warn=False)
        return (len(q) * plan).to(v.dtype) @ v  # the rows of the plan sum to 1/n

    def apply(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = zip(*(x.flatten(0, -3) for x in (q, k, v)), strict=True)
        return torch.stack([one_head(*head) for head in heads]).view(v.shape)

    return apply


def _keops(setting: Setting) -> Mechanism:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it compiles
        import pykeops
        from pykeops.torch import LazyTensor

        pykeops.set_verbose(False)
    if setting.device == "cuda" and not pykeops.config.gpu_available:
        raise RuntimeError("KeOps finds no CUDA compiler")
    scale = 1 / math.sqrt(setting.shape[3])

    def apply(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dtype, (q, k, v) = v.dtype, (x.float().contiguous() for x in (q, k, v))  # it does not support bfloat16
        scores = (LazyTensor(q[..., :, None, :] * scale) | LazyTensor(k[..., None, :, :])).sum(-1)
        return scores.sumsoftmaxweight(LazyTensor(v[..., None, :, :]), axis=q.ndim - 1).to(dtype)

    return apply


def _flex_alibi(setting: Setting) -> Mechanism:
    flex, heads = _flex(), setting.shape[1]
    slopes = 2.0 ** (-8 * torch.arange(1, heads + 1, device=setting.device) / heads)

    def nearer(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score - slopes[h] * (i - j).abs()

    return lambda q, k, v: flex(q, k, v, score_mod=nearer)


def _flex_euclidean(setting: Setting) -> Mechanism:
    flex, scale = _flex(), 1 / setting.shape[3]

    def apply(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # The term of the query cancels in a row softmax.
        term = -0.5 * scale * k.float().square().sum(-1)

        def closer(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + term[b, h, j]

        return flex(q, k, v, score_mod=closer, scale=scale)

    return apply


def _flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return cast(Callable[..., Tensor], torch.compile(flex_attention, dynamic=False))


_ROWS = [
    Contender("PyTorch, softmax(QKᵀ) V", _softmax, like="Dot"),
    LIMIT,
    Contender("PyTorch, torch.cdist", _cdist, like="Euclidean"),
    Contender("x-transformers, l2_distance", _x_transformers, like="Euclidean"),
    Contender("FlexAttention, distance", _flex_euclidean, like="Euclidean", compiled=True, trains_on=("cuda",)),
    Contender("FlexAttention, ALiBi", _flex_alibi, like="Dot + ALiBi", compiled=True, trains_on=("cuda",)),
    Contender("entmax, sparsemax", _sparsemax, shrink=QUARTER, like="Sparsemax"),
    Contender("entmax, entmax15", _entmax15, shrink=QUARTER, like="Entmax(1.5)"),
    Contender("POT, sinkhorn_log", _pot, shrink=QUARTER, like="Sinkhorn(3)"),
    Contender("KeOps, LazyTensor", _keops, shrink=QUARTER, like="Dot"),
]
PEERS = {row.name: row for row in _ROWS}

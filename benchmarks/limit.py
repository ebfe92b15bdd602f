"""What can torch's kernel give at best for a Gaussian score on the CPU? The bound on Euclidean and Metric.

    s_ij = ⟨q_i, k_j⟩/d + b_j,   b_j = −‖k_j‖²/2d

The forward pass adds b for nothing. In the backward pass db_j = Σ_i dS_ij has to come from somewhere, and
the kernel returns no more columns than go in: so it runs one column wider, padded to a multiple of 4. Here
all of its wide arguments lie ready, and nothing comes from the column. What is left is the kernel's own time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contender import Contender, Mechanism, Setting
from limelight.kernels import backends

_MULTIPLE = 4  # widths that are not run slower


def _at_best(setting: Setting) -> Mechanism:
    if setting.device != "cpu":
        raise RuntimeError("it bounds the CPU's kernel")
    d = setting.shape[3]
    q, k, v, dout = setting.tensors()
    bias, tile = -k.float().square().sum(-1) / (2 * d), backends.Tile(None, False, 1 / d)
    out, lse = backends.forward(q, k, v, bias, tile)
    wide_dout, wide_q, wide_k, wide_v, wide_out = (
        F.pad(x, (0, _MULTIPLE - d % _MULTIPLE)) for x in (dout, q, k, v, out)
    )

    class AtBest(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return backends.forward(q, k, v, bias, tile)[0]

        @staticmethod
        def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
            wide = backends.backward(wide_dout, None, wide_q, wide_k, wide_v, bias, wide_out, lse, tile, False)
            return wide.q[..., :d], wide.k[..., :d], wide.v[..., :d]

    return AtBest.apply  # type: ignore[no-any-return]


LIMIT = Contender("PyTorch, d + 1 columns", _at_best, like="Euclidean")

"""What does one call cost where there is nearly nothing to compute? Limelight's own work, in microseconds over SDPA."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.contender import Setting
from benchmarks.measure import Ratio, seconds
from limelight import attend

SHAPE = (1, 8, 64, 64)
CALLS = 2000


def overhead(setting: Setting) -> Ratio:
    """Microseconds of `attend(q, k, v)` over SDPA at 1×8×64×64, call by call in turn: median and quartiles.

    A call is shorter than a time slice, so that what else the machine does disturbs few of them.
    """
    q, k, v, _ = Setting(SHAPE, setting.dtype, setting.device, setting.threads).tensors()
    found = []
    with torch.no_grad():
        for _ in range(CALLS):
            own = seconds(lambda: attend(q, k, v), setting.device)
            found.append(1e6 * (own - seconds(lambda: F.scaled_dot_product_attention(q, k, v), setting.device)))
    return Ratio.of(found[CALLS // 10 :])  # the first are a warm-up

"""The overhead of a call with almost nothing to compute: Limelight's time minus that of SDPA, in microseconds."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.contender import Setting
from benchmarks.measure import Ratio, seconds
from limelight import attend

SHAPE = (1, 8, 64, 64)
CALLS = 2000


def overhead(setting: Setting) -> Ratio:
    """Microseconds of `attend(q, k, v)` minus those of SDPA at 1×8×64×64, called in turns: median and quartiles.

    A call is shorter than a time slice, so other programs disturb only few calls.
    """
    q, k, v, _ = Setting(SHAPE, setting.dtype, setting.device, setting.threads).tensors()
    found = []
    with torch.no_grad():
        for _ in range(CALLS):
            own = seconds(lambda: attend(q, k, v), setting.device)
            found.append(1e6 * (own - seconds(lambda: F.scaled_dot_product_attention(q, k, v), setting.device)))
    return Ratio.of(found[CALLS // 10 :])  # the first calls are a warm-up

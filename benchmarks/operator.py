"""What does each mechanism cost beside plain attention? `python -m benchmarks.operator --help`

Forward + backward against torch's scaled_dot_product_attention, in one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Job, peak_bytes, ratios
from limelight import Cosine, Dot, Euclidean, Metric, Sinkhorn, Softmax, attend

BASELINE = "SDPA"
TARGETS = {"Euclidean": 1.25, "Metric (φ = identity)": 1.25, "Dot, α = 1": 2.3}
MEMORY_TARGET = 2.5

Mechanism = Callable[[Tensor, Tensor, Tensor], Tensor]


def mechanisms() -> dict[str, Mechanism]:
    """Name → attention (q, k, v) ↦ out."""
    return {
        BASELINE: F.scaled_dot_product_attention,
        "Dot": attend,
        "Cosine": partial(attend, similarity=Cosine()),
        "Euclidean": partial(attend, similarity=Euclidean(8.0)),
        "Metric (φ = identity)": partial(attend, similarity=Metric(torch.nn.Identity()), scale=1 / 64),
        "Dot, α = 1": partial(attend, normalisation=Softmax(alpha=1.0)),
        "Euclidean, α = 1": partial(attend, similarity=Euclidean(8.0), normalisation=Softmax(alpha=1.0)),
        "Dot, Sinkhorn(3)": partial(attend, normalisation=Sinkhorn(3)),
        "dense (reference)": partial(attend, similarity=Dot(), kernel="reference"),
    }


def job(name: str, shape: tuple[int, ...]) -> Job:
    """Forward and backward of one mechanism on fixed random inputs."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(shape, generator=generator) for _ in range(4))
    mechanism = mechanisms()[name]

    def run() -> None:
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        mechanism(*leaves).backward(grad)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=4, default=(1, 8, 4096, 64), metavar=("B", "H", "N", "D"))
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds (default 11)")
    parser.add_argument("--only", nargs="+", choices=list(mechanisms()), help="these mechanisms alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = [name for name in mechanisms() if not options.only or name in (*options.only, BASELINE)]
    build = partial(job, shape=tuple(options.shape))
    times = ratios({name: build(name) for name in names}, BASELINE, options.rounds)
    peaks = {name: peak_bytes(build, name) for name in names}
    shape = "×".join(map(str, options.shape))
    print(f"forward + backward at {shape}, float32, {options.threads} threads, over {BASELINE} (median [quartiles])\n")
    print(f"{'mechanism':24} {'time':>6} {'':16} {'target':>7}  {'peak memory':>20}")
    for name in names:
        time, peak = times[name], peaks[name]
        target = f"≤ {TARGETS[name]:.2f}" if name in TARGETS else ""
        share = f"{peak / peaks[BASELINE]:5.2f} ({peak / 1e6:6.0f} MB)"
        print(f"{name:24} {time.median:6.3f} [{time.low:.3f}, {time.high:.3f}] {target:>8}  {share:>20}")
    print(f"\nmemory target: ≤ {MEMORY_TARGET} × {BASELINE} for every mechanism but the dense one")


if __name__ == "__main__":
    main()

"""Sharded attention: measured on a few processes, computed for many GPUs. `python -m benchmarks.scale`

Each of p processes (gloo, one thread) has 1/p of the tokens and computes a forward and a backward pass of
`limelight.distributed.attend`. Counted: bytes sent, the growth of the peak memory, seconds, and seconds of the
processor, which say how much work a rank has even where the machine has fewer cores than processes. Writes
docs/scale.json and docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.measure import peak_growth
from benchmarks.scale_page import page
from limelight import Dot, Euclidean, Similarity, Softmax, attend, causal, distributed
from limelight.distributed import ring
from limelight.distributed.order import Order

DOCS = Path(__file__).parents[1] / "docs"
HEADS, WIDTH, RANKS = 8, 64, (1, 2, 4)
CASES: dict[str, tuple[Similarity, float, bool]] = {
    "dot": (Dot(), 0.0, False),
    "Euclidean": (Euclidean(8.0), 0.0, False),
    "dot, causal": (Dot(), 0.0, True),
    "Euclidean, α = 1": (Euclidean(8.0), 1.0, False),
}


def _process(index: int, ranks: int, folder: str, tokens: int, name: str) -> None:
    """One process of a group of `ranks`: what it measured is written into the folder."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store{index // ranks}", ranks)
    dist.init_process_group("gloo", store=store, rank=index % ranks, world_size=ranks)
    _passes(name, 16 * ranks, [0])  # what is imported and allocated once is not counted
    found = _passes(name, tokens, bytes_sent())
    Path(folder, f"{index}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _passes(name: str, tokens: int, sent: list[int]) -> dict[str, float]:
    """What a forward and a backward pass cost this rank; `sent` is the number of bytes that it has sent so far."""
    similarity, alpha, is_causal = CASES[name]
    order: Order = "zigzag" if is_causal else "contiguous"
    generator = torch.Generator().manual_seed(0)
    whole = (torch.randn(HEADS, tokens, WIDTH, generator=generator) for _ in range(3))
    q, k, v = (distributed.shard(x, order=order).clone().requires_grad_() for x in whole)
    dist.barrier()
    found: dict[str, float] = {}

    def both() -> None:
        started, processor = time.perf_counter(), time.process_time()
        mask = causal if is_causal else None
        kinds = {"similarity": similarity, "normalization": Softmax(alpha)}
        alone = dist.get_world_size() == 1
        out = attend(q, k, v, mask, **kinds) if alone else distributed.attend(q, k, v, mask, order=order, **kinds)
        found["forward"] = sent[0]
        out.sum().backward()
        found["backward"] = sent[0] - found["forward"]
        found["seconds"], found["processor"] = time.perf_counter() - started, time.process_time() - processor

    return {"memory": peak_growth(both), **found}


def bytes_sent() -> list[int]:
    """A number that grows by the bytes of every message that this process sends from now on."""
    sent, transfer = [0], ring._transfer

    def counting(operation: Any, x: torch.Tensor, *rest: Any) -> Any:
        sent[0] += x.nbytes if operation is dist.isend else 0
        return transfer(operation, x, *rest)

    ring._transfer = counting  # type: ignore[assignment]
    return sent


def measured(name: str, ranks: int, tokens: int) -> dict[str, Any]:
    """What each rank measured of one case."""
    # Once glibc has freed large blocks it keeps much of what is freed, and a process would have grown by all of its
    # heap. With a fixed threshold each tensor has its own pages, which the system gets back. That costs time, which is
    # therefore taken in other processes. Cores also slow each other down, since they share caches and memory: so one
    # process is timed while others compute the same, on as many cores as the largest group has.
    groups = max(1, min(mp.cpu_count(), max(RANKS)) // ranks)
    found = _on_all(name, ranks, tokens, groups, {})
    memory = _on_all(name, ranks, tokens, 1, {"MALLOC_MMAP_THRESHOLD_": "131072"})["memory"]
    return {"case": name, "ranks": ranks, **found, "memory": memory}


def _on_all(name: str, ranks: int, tokens: int, groups: int, environment: dict[str, str]) -> dict[str, list[float]]:
    """What the ranks of new groups, with these variables in their environment, measured: their mean over the groups."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(_process, args=(ranks, folder, tokens, name), nprocs=groups * ranks)  # type: ignore[no-untyped-call]
            found = [json.loads(Path(folder, f"{index}.json").read_text()) for index in range(groups * ranks)]
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {key: [mean(each[key] for each in found[rank::ranks]) for rank in range(ranks)] for key in found[0]}


def _comparable(kept: Path, about: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The stored rows of each case; raises unless they were measured under the same circumstances."""
    stored = json.loads(kept.read_text(encoding="utf-8"))
    rows = stored.pop("rows")
    if stored != about:
        raise SystemExit(f"the stored rows are of {stored}, and these would be of {about}; measure all cases")
    return {name: [row for row in rows if row["case"] == name] for name in CASES}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--only", choices=CASES, help="measure this case, and keep the stored rows of the others")
    parser.add_argument("--stored", action="store_true", help="write the page from the stored run")
    asked = parser.parse_args()
    kept = DOCS / "scale.json"
    if not asked.stored:
        about = {"tokens": asked.tokens, "heads": HEADS, "width": WIDTH, "torch": torch.__version__}
        about |= {"processor": platform.machine(), "cores": mp.cpu_count()}
        before = _comparable(kept, about) if asked.only else {}
        rows = []
        for name in CASES:
            if name in before and name != asked.only:
                rows += before[name]
                continue
            for ranks in RANKS:
                rows.append(measured(name, ranks, asked.tokens))
                print(json.dumps(rows[-1]), flush=True)
        kept.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    (DOCS / "scale.md").write_text(page(json.loads(kept.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Time and memory of each mechanism compared with torch's attention and other packages: `python -m benchmarks.operator`

Limelight and its peers run interleaved in one process; times and peak memory are ratios to
F.scaled_dot_product_attention. Prints tables, and writes JSON and a picture.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.calls import overhead
from benchmarks.contender import Contender, Setting
from benchmarks.mechanisms import MEASURED, MECHANISMS
from benchmarks.peers import PEERS
from benchmarks.picture import draw
from benchmarks.progress import progress
from benchmarks.results import Results
from benchmarks.rounds import lane, measure_memory, run
from benchmarks.table import as_text

DEFAULTS = {  # device → shape, dtype, rounds
    "cpu": ((1, 8, 4096, 64), "float32", 5),
    "cuda": ((4, 16, 8192, 64), "bfloat16", 15),
}
EVERYTHING = {**MECHANISMS, MEASURED.name: MEASURED, **PEERS}


def main() -> None:
    options = _options()
    if options.list:
        for name, row in EVERYTHING.items():
            more = f"target ≤ {row.target}" if row.target else f"as {row.like}" if row.like else ""
            print(f"{'peer' if name in PEERS else 'limelight':10} {name:42} {more}".rstrip())
        return
    started = time.monotonic()
    deadline = started + 60 * options.minutes
    shape, dtype, rounds = DEFAULTS[options.device]
    rounds = options.rounds or rounds
    torch.set_num_threads(options.threads)
    setting = Setting(options.shape or shape, getattr(torch, options.dtype or dtype), options.device, options.threads)
    chosen = _chosen(options.only)
    # Warnings that a library gives when it is imported or compiled would disturb the table.
    warnings.simplefilter("ignore")
    again = _alike(chosen)
    with progress((len(chosen) + len(again)) * (2 + 2 * rounds), deadline) as bar:
        lanes = {name: lane(row, setting, bar) for name, row in chosen.items()}
        alike = {name: lane(row, setting, bar) for name, row in again.items()}
        racing = [each for each in (*lanes.values(), *alike.values()) if each.forward]
        measure_memory(racing, setting, bar)
        run(racing, setting, rounds, deadline, bar)
    results = Results(
        setting=_described(setting) | {"minutes": round((time.monotonic() - started) / 60, 1)},
        limelight=[lanes[name].row for name in chosen if name in MECHANISMS],
        peers=[lanes[name].row for name in chosen if name in PEERS],
        alike={
            name: (alike[name] if name in alike else lanes[row.like]).row
            for name, row in chosen.items()
            if row.like and (name in alike or row.like in lanes)
        },
        statistics=lanes[MEASURED.name].row if MEASURED.name in lanes else None,
        overhead=None if options.only else overhead(setting),
    )
    print(as_text(results))
    path = options.json or Path(__file__).parent / "results" / f"bench-{options.device}.json"
    results.write(path)
    draw(results, path.with_suffix(".html"))
    print(f"Written: {path} and {path.with_suffix('.html').name}")


def _alike(chosen: dict[str, Contender]) -> dict[str, Contender]:
    """Limelight's rows for peers that run at another length, which run at that length too."""
    return {
        name: replace(MECHANISMS[row.like], shrink=row.shrink, target=None)
        for name, row in chosen.items()
        if row.like and row.shrink > 1
    }


def _chosen(only: list[str] | None) -> dict[str, Contender]:
    """The rows with these names, which may be parts of names in any case; all rows if none is given."""
    if not only:
        return EVERYTHING
    names: set[str] = set()
    for asked in only:
        exact = [name for name in EVERYTHING if name.casefold() == asked.casefold()]
        found = exact or [name for name in EVERYTHING if asked.casefold() in name.casefold()]
        if not found:
            raise SystemExit(f"no row has {asked!r} in its name; the rows are {', '.join(EVERYTHING)}")
        names.update(found)
    return {name: row for name, row in EVERYTHING.items() if name in names}


def _described(setting: Setting) -> dict[str, object]:
    on = torch.cuda.get_device_name() if setting.device == "cuda" else f"{platform.machine()} CPU"
    return {
        "shape": setting.shape, "dtype": str(setting.dtype).removeprefix("torch."), "device": setting.device,
        "on": on, "threads": setting.threads, "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.replace("x", ",").replace("×", ",").split(","))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected B,H,N,D, got {text}")
    return sizes


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator", description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=_shape, metavar="B,H,N,D", help="default 1,8,4096,64; on CUDA 4,16,8192,64")
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"], help="float32; CUDA bfloat16")
    parser.add_argument("--device", choices=list(DEFAULTS), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, help="the largest number of rounds (default 5; on CUDA 15)")
    parser.add_argument("--minutes", type=float, default=9.0, help="the time after which no round may end (default 9)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only rows with one of these in their name")
    parser.add_argument("--json", type=Path, metavar="PATH", help="default benchmarks/results/bench-<device>.json")
    parser.add_argument("--list", action="store_true", help="list the rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Time in ordinary use compared with torch's and transformers' own attention: `python -m benchmarks.use`

Each case has a job of Limelight and one of torch or transformers that computes the same; they run in turns.
Prints a table, and writes JSON and a picture. `--quick` takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.calls import overhead
from benchmarks.contender import Setting
from benchmarks.measure import Job, Ratio, neighbors, peak_bytes, seconds
from benchmarks.progress import Bar, progress
from benchmarks.use_cases import Case, cases
from benchmarks.use_report import draw, table

ROUNDS, QUICK_ROUNDS, MOST_ROUNDS = 7, 5, 60
LEAST = 1.0  # a case runs for at least so many seconds: short jobs run in more rounds
CALL = 30.0  # the target for the overhead of one call, in µs


@dataclass
class Row:
    """The measurements of one case, or the reason why it was not measured."""

    group: str
    name: str
    beside: str
    target: float | None
    ratio: Ratio | None = None
    milliseconds: float | None = None  # the median of the other job
    memory: int | None = None  # bytes by which Limelight's job raises the peak memory
    memory_beside: int | None = None
    note: str = ""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    chosen = _chosen(options.only, options.quick)
    started = time.monotonic()
    with progress(len(chosen), started + 60 * options.minutes) as bar:
        rows = [_measured(case, options, started + 60 * options.minutes, bar) for case in chosen]
    call = overhead(Setting((1, 8, 64, 64), torch.float32, "cpu", options.threads)) if not options.only else None
    results = {
        "setting": {
            "threads": options.threads, "torch": torch.__version__, "python": platform.python_version(),
            "on": f"{platform.machine()} CPU", "minutes": round((time.monotonic() - started) / 60, 1),
        },
        "rows": [asdict(row) for row in rows],
        "call": None if call is None else asdict(call) | {"target": CALL},
    }  # fmt: skip
    print(table(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(results, options.json.with_suffix(".html"))
    print(f"Written: {options.json} and {options.json.with_suffix('.html').name}")


def _chosen(words: list[str] | None, quick: bool) -> list[Case]:
    """The cases with one of the words in their name, or all cases if no word is given."""
    found = [case for case in cases() if not words or any(word.casefold() in case.name.casefold() for word in words)]
    if not found:
        raise SystemExit(f"no case has {' or '.join(words or [])} in its name: {', '.join(x.name for x in cases())}")
    return [case for case in found if not (quick and case.slow)]


def _measured(case: Case, options: argparse.Namespace, deadline: float, bar: Bar) -> Row:
    bar.step(case.name)
    row = Row(case.group, case.name, case.beside, case.target)
    if time.monotonic() > deadline:
        row.note = "not measured: the time was up"
        return row
    try:
        mine, other = case.make()
        once = [seconds(job, "cpu") for job in (mine, other, mine, other)][2:]
        rounds = QUICK_ROUNDS if options.quick else ROUNDS
        rounds = min(max(rounds, int(LEAST / sum(once))), MOST_ROUNDS)
        pairs = [neighbors(other, [mine], "cpu")[0] for _ in range(rounds)]
        row.ratio = Ratio.of([own / theirs for own, theirs in pairs])
        row.milliseconds = 1e3 * sorted(theirs for _, theirs in pairs)[rounds // 2]
        if case.memory:
            row.memory, row.memory_beside = (peak_bytes(_job, "cpu", case.name, which) for which in (0, 1))
    except Exception as error:  # for example a library is not installed, or there is too little memory
        row.note = f"not measured: {str(error).strip().splitlines()[0][:100]}"
    return row


def _job(name: str, which: int) -> Job:
    """The first or second job of a case, for a process that measures its memory."""
    torch.set_num_threads(1)
    return next(case for case in cases() if case.name == name).make()[which]


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.use", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="take two minutes, without the long cases and in fewer rounds"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases with one of these in their name")
    parser.add_argument("--minutes", type=float, default=12.0, help="the time after which no case begins (default 12)")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "use-cpu.json", metavar="PATH")
    return parser.parse_args()


if __name__ == "__main__":
    main()

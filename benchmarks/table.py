"""The results as tables in plain text, with ✓ or ✗ for every target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.measure import Ratio
from benchmarks.results import OVERHEAD, Results, Row, met

NAME, CELL, MEMORY = 26, 22, 18


def as_text(results: Results) -> str:
    """The results as text."""
    return "\n".join(_lines(results))


def _lines(results: Results) -> Iterator[str]:
    s = results.setting
    shape = "×".join(map(str, s["shape"]))
    yield f"{shape}, {s['dtype']}, {s['on']}, {s['threads']} threads, torch {s['torch']}"
    yield "Time and peak memory over F.scaled_dot_product_attention: median [quartiles] over interleaved rounds.\n"
    if results.limelight:
        yield from _own(results.limelight, s["shape"][2])
    if results.peers:
        yield from _others(results)
    if results.statistics and results.statistics.forward:
        row = results.statistics
        yield f"{row.name}, over A @ v alone: {cell(row.forward, row.target)}, target ≤ {row.target}"
    if results.overhead:
        mark = met(results.overhead.median, OVERHEAD)
        low, high = results.overhead.low, results.overhead.high
        yield (
            f"One call at 1×8×64×64 over SDPA: {results.overhead.median:.0f} [{low:.0f}, {high:.0f}] µs {mark}, "
            f"target ≤ {OVERHEAD:.0f} µs"
        )
    yield _score(results)


def _own(rows: Sequence[Row], n: int) -> Iterator[str]:
    headings = f"{'forward':{CELL}}{'forward + backward':{CELL}}{'target':8}{'memory':{MEMORY}}{'target':8}rounds"
    yield f"{'Limelight':{NAME}}{'kernel':9}{headings}"
    for row in rows:
        name = row.name if row.n == n else f"{row.name}, n = {row.n}"
        times = f"{cell(row.forward, row.target):{CELL}}{cell(row.training, row.target):{CELL}}{_limit(row.target):8}"
        memory = f"{_memory(row):{MEMORY}}{_limit(row.memory_target):8}"
        yield f"{name:{NAME}}{row.kernel:9}{times}{memory}{_rounds(row)}{_note(row)}"
    if any(row.over != "SDPA" for row in rows):
        yield "  (causal: over causal SDPA)"
    yield ""


def _others(results: Results) -> Iterator[str]:
    headings = f"{'forward':{CELL}}{'forward + backward':{CELL}}{'memory':{MEMORY}}{'rounds':8}"
    yield f"{'Peers':{NAME + 2}}{'n':>5}  {headings}Limelight's, at this n"
    for row in results.peers:
        times = f"{cell(row.forward):{CELL}}{cell(row.training):{CELL}}{_memory(row):{MEMORY}}"
        beside = _beside(results.alike.get(row.name))
        yield f"{row.name:{NAME + 2}}{row.n:5}  {times}{_rounds(row):8}{beside}{_note(row)}"
    if len({row.n for row in results.peers}) > 1:
        yield "  (a peer that would take minutes runs at a smaller n, and so do SDPA and Limelight beside it)"
    yield ""


def _beside(row: Row | None) -> str:
    if row is None or row.forward is None:
        return ""
    numbers = [f"{x.median:.2f}" if x else "–" for x in (row.forward, row.training)]
    return f"{row.name} {numbers[0]}, {numbers[1]}" + ("" if row.memory is None else f", memory {row.memory:.1f}")


def cell(ratio: Ratio | None, target: float | None = None) -> str:
    if ratio is None:
        return "–"
    digits = 2 if ratio.high < 9.995 else 1
    spread = f" [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]" if ratio.rounds > 1 else ""
    return f"{ratio.median:.{digits}f}{spread} {met(ratio.median, target)}".rstrip()


def _memory(row: Row) -> str:
    if row.memory is None or row.peak is None:
        return "–"
    return f"{row.memory:.2f} ({row.peak / 1e6:.0f} MB) {met(row.memory, row.memory_target)}".rstrip()


def _limit(target: float | None) -> str:
    return "" if target is None else f"≤ {target:.1f}" if target * 10 % 1 == 0 else f"≤ {target:.2f}"


def _rounds(row: Row) -> str:
    counts = {x.rounds for x in (row.forward, row.training) if x}
    return "/".join(map(str, sorted(counts))) or "–"


def _note(row: Row) -> str:
    return f"  {row.note}" if row.note else ""


def _score(results: Results) -> str:
    """A sentence on how many targets the medians meet."""
    marks = [met(x.median, row.target) for row in results.limelight for x in (row.forward, row.training) if x]
    marks += [met(row.memory, row.memory_target) for row in results.limelight if row.memory is not None]
    if results.statistics and results.statistics.forward:
        marks.append(met(results.statistics.forward.median, results.statistics.target))
    if results.overhead:
        marks.append(met(results.overhead.median, OVERHEAD))
    return f"\n{marks.count('✓')} of {len(marks) - marks.count('')} targets met, by the medians."

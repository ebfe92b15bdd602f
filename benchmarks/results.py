"""What was found? Plain records, as the tables, the picture and the JSON file read them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Ratio

MEMORY, CHUNKED_MEMORY = 2.0, 4.0  # targets: peak memory over SDPA's, the second for Limelight's chunked kernel
OVERHEAD = 60.0  # µs of one call over SDPA


@dataclass
class Row:
    """One contender beside its baseline; None where it was not measured, with the reason in `note`."""

    name: str
    over: str
    n: int
    kernel: str = ""
    like: str = ""
    target: float | None = None
    forward: Ratio | None = None
    training: Ratio | None = None  # forward and backward
    peak: int | None = None  # bytes, of forward and backward
    memory: float | None = None  # the peak over the baseline's
    note: str = ""

    @property
    def memory_target(self) -> float | None:
        """Only Limelight's rows have one."""
        return None if not self.kernel else CHUNKED_MEMORY if self.kernel == "chunked" else MEMORY


@dataclass
class Results:
    """A whole run."""

    setting: dict[str, Any]
    limelight: list[Row] = field(default_factory=list)
    peers: list[Row] = field(default_factory=list)
    alike: dict[str, Row] = field(default_factory=dict)  # peer → the Limelight row that computes the same, at its n
    statistics: Row | None = None
    overhead: Ratio | None = None  # µs

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def met(value: float, target: float | None) -> str:
    """✓ or ✗, or nothing where there is no target."""
    return "" if target is None else "✓" if value <= target else "✗"

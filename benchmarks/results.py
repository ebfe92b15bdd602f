"""The results as plain records, for the tables, the picture and the JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Ratio

MEMORY, CHUNKED_MEMORY = 2.0, 4.0  # targets for the peak memory divided by SDPA's; the second is for the chunked kernel
OVERHEAD = 60.0  # target for one call, in µs more than SDPA


@dataclass
class Row:
    """One contender compared with its baseline. A number that was not measured is None, and `note` says why."""

    name: str
    over: str
    n: int
    kernel: str = ""
    like: str = ""
    target: float | None = None
    forward: Ratio | None = None
    training: Ratio | None = None  # forward and backward
    peak: int | None = None  # bytes, for forward and backward
    memory: float | None = None  # the peak divided by the baseline's
    note: str = ""

    @staticmethod
    def of(record: dict[str, Any]) -> Row:
        """A row from its record in a file."""
        ratios = {name: Ratio(**record[name]) for name in ("forward", "training") if record[name]}
        return Row(**record | ratios)

    @property
    def memory_target(self) -> float | None:
        """The target for memory, which only Limelight's rows have."""
        return None if not self.kernel else CHUNKED_MEMORY if self.kernel == "chunked" else MEMORY


@dataclass
class Results:
    """The results of a whole run."""

    setting: dict[str, Any]
    limelight: list[Row] = field(default_factory=list)
    peers: list[Row] = field(default_factory=list)
    alike: dict[str, Row] = field(default_factory=dict)  # peer → the Limelight row that computes the same, at its n
    statistics: Row | None = None
    overhead: Ratio | None = None  # µs

    @staticmethod
    def of(record: dict[str, Any]) -> Results:
        """The results of a run from the record that `write` stores."""
        rows = {name: [Row.of(row) for row in record[name]] for name in ("limelight", "peers")}
        return Results(
            setting=record["setting"],
            alike={name: Row.of(row) for name, row in record["alike"].items()},
            statistics=record["statistics"] and Row.of(record["statistics"]),
            overhead=record["overhead"] and Ratio(**record["overhead"]),
            **rows,
        )

    def write(self, path: Path) -> None:
        """Write the results to a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def met(value: float, target: float | None) -> str:
    """✓ if the value meets the target, ✗ if not, and nothing if there is no target."""
    return "" if target is None else "✓" if value <= target else "✗"

"""What a result was computed on: the processor, and the commit of the code where it is a clone of the repository."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

_PATIENCE = 5  # seconds for git to answer


@cache
def processor() -> str:
    """The processor and its number of cores, such as "AMD EPYC, 2 cores"."""
    cores = os.cpu_count() or 1
    return f"{_model() or platform.machine()}, {cores} core{'' if cores == 1 else 's'}"


def _model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor()


@cache
def commit() -> str:
    """The short hash of the commit of this clone; empty for an installed package, or where git is missing."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD:./"]
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True)  # fails where git does not know it
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short", "HEAD"],
            capture_output=True, text=True, timeout=_PATIENCE, check=True,
        )  # fmt: skip
        return found.stdout.strip()
    return ""

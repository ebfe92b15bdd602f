"""What a trial that was interrupted had reached, as files that are removed when it has a result.

    results/.unfinished/<claim>/<name of the trial>-<loop>.safetensors

A file holds the tensors and the text of one loop (`limelight.models.resumable`), the seconds that the trial had taken,
and the SHA-256 of all of this. A file that is damaged is not used, and the loop begins anew. The folder may be removed
at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limelight.errors import StoreError
from limelight.experiment.store import write_atomically

if TYPE_CHECKING:
    from torch import Tensor


class Unfinished:
    """The files of one trial, which begins now and whose result will be written to `result`."""

    def __init__(self, result: Path) -> None:
        self._start = result.parent.parent / ".unfinished" / result.parent.name / result.stem
        self._loops, self._begun, self._before = 0, time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """The seconds of this run, and of those before it up to the state from which it went on."""
        return self._before + time.perf_counter() - self._begun

    def next_loop(self) -> int:
        """The number of a loop that begins now: 0, 1, …"""
        self._loops += 1
        return self._loops - 1

    def load(self, loop: int) -> tuple[list[Tensor], str] | None:
        """The tensors and the text of a loop, or None where there is no file, or a damaged one."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path(loop), framework="pt") as file:
                kept = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (file is no dictionary)
        except (OSError, SafetensorError):
            return None
        if kept.get("sha256") != _digest(tensors, kept.get("text", ""), kept.get("seconds", "")):
            return None
        self._before = float(kept["seconds"])
        return [tensors[str(number)] for number in range(len(tensors))], kept["text"]

    def save(self, loop: int, tensors: Sequence[Tensor], text: str) -> None:
        """Write the file of a loop, completely or not at all; nothing is written where the folder does not allow it."""
        from safetensors.torch import save

        named = {str(number): tensor.cpu().contiguous().clone() for number, tensor in enumerate(tensors)}
        seconds = f"{self.seconds:.3f}"
        kept = {"text": text, "seconds": seconds, "sha256": _digest(named, text, seconds)}
        with contextlib.suppress(StoreError):
            write_atomically(self._path(loop), save(named, metadata=kept))

    def remove(self) -> None:
        """Remove the files of all loops of this trial."""
        for path in self._start.parent.glob(f"{self._start.name}-*.safetensors"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, loop: int) -> Path:
        return self._start.with_name(f"{self._start.name}-{loop}.safetensors")


def _digest(tensors: Mapping[str, Tensor], text: str, seconds: str) -> str:
    import torch  # here, since it takes a second

    digest = hashlib.sha256(f"{seconds} {text}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
    return digest.hexdigest()

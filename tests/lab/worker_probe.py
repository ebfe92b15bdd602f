"""A worker that reports with each frame its own modules, unshared memory and threads. A fork server preloads it."""

import gc
import json
import os
import sys
from pathlib import Path

import torch

from limelight.lab import worker

at_fork = {}


def _note():
    at_fork.update(modules=frozenset(sys.modules), frozen=gc.get_freeze_count(), server=os.getppid())


os.register_at_fork(after_in_child=_note)


class Probing:
    """A connection that adds `"probe"` to each frame."""

    def __init__(self, connection):
        self._connection = connection

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def send_bytes(self, frame):
        imported = sorted(set(sys.modules) - at_fork["modules"])
        probe = {
            "imported": imported, "frozen": at_fork["frozen"], "torch_threads": torch.get_num_threads(),
            "private_mb": private_mb(), "server_threads": len(os.listdir(f"/proc/{at_fork['server']}/task")),
        }  # fmt: skip
        self._connection.send_bytes(json.dumps({**json.loads(frame), "probe": probe}).encode())


def private_mb():
    """Megabytes of memory that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def main(connection, module, values):
    worker.main(Probing(connection), module, values)

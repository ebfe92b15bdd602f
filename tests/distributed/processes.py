"""Runs one function on several processes that meet in a file, and returns what each of them printed."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
_LIMIT = 500  # seconds for processes that take a few: these run at the lowest priority, beside whatever else there is


def on_ranks(p, function, *, backend="gloo", **arguments):
    """What `function(**arguments)` of a module of tests returns on each of p ranks; raises if one of them fails.

    With a backend for GPUs, each rank makes its tensors on a GPU of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        name = [backend, function.__module__, function.__name__]
        started = [_start(folder, rank, p, [*name, arguments]) for rank in range(p)]
        try:
            outcomes = [process.communicate(timeout=_LIMIT) for process in started]
        finally:
            for process in started:
                process.kill()
    for rank, (process, (_, errors)) in enumerate(zip(started, outcomes, strict=True)):
        assert process.returncode == 0, f"rank {rank} of {p}:\n{errors}"
    return [json.loads(printed.splitlines()[-1]) if printed else None for printed, _ in outcomes]


def _start(folder, rank, p, what):
    command = [sys.executable, "-m", "tests.distributed.processes", folder, str(rank), str(p), json.dumps(what)]
    source = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    env = {
        **os.environ,
        "PYTHONPATH": source,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "STORE": f"{folder}/test",
    }
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(folder, rank, p, what):
    backend, module, name, arguments = json.loads(what)
    torch.set_num_threads(1)
    if "nccl" in backend:
        torch.cuda.set_device(int(rank))
        torch.set_default_device(f"cuda:{rank}")
    store = dist.FileStore(f"{folder}/store", int(p))
    dist.init_process_group(backend, store=store, rank=int(rank), world_size=int(p), timeout=timedelta(seconds=_LIMIT))
    torch.manual_seed(0)
    found = getattr(importlib.import_module(module), name)(**arguments)
    print(json.dumps(found), flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

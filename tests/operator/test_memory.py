"""The matrix is never stored: memory stays far under n×m, forward, backward and for every statistic."""

import subprocess
import sys
from pathlib import Path

import pytest

# A process that imports the library once, and forks for each line of its input: a number n and the options. So each
# child starts with the same memory.
PARENT = """
import os, sys
from pathlib import Path
import torch
from limelight import *

torch.set_num_threads(1)

def resident(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) / 1024

def work(n, options):
    q, k, v = (torch.randn(n, 8, requires_grad=True) for _ in range(3))
    A = Attention(q, k, **{"similarity": Euclidean(3.0), **eval(options)})
    total = (A @ v).sum() + A.entropy().sum() + A.column_mass().square().sum() + (A.T @ q).sum()
    total.backward()

def child(n, options):
    work(64, options)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work(n, options)
    print(resident("VmHWM") - before, flush=True)

for line in iter(sys.stdin.readline, ""):
    if os.fork() == 0:
        n, options = line.split(maxsplit=1)
        child(int(n), options)
        sys.exit()
    if os.wait()[1]:
        sys.exit("no number came of it")
"""


@pytest.fixture(scope="module")
def parent():
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", PARENT]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.stdin.close()


WHOLE = (8192, 200)  # n, and a limit in MB: computed in pieces, these take 70 to 130 MB for any n


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("options", "n", "most"),
    [
        ("dict()", 4096, 50),
        pytest.param("dict(normalization=Softmax(1.0))", *WHOLE, marks=pytest.mark.slow),
        ("dict(normalization=Sinkhorn(2), mask=padding(keys=torch.arange(len(q)) % 3 > 0))", 4096, 50),
        pytest.param("dict(mask=window(100, 100))", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(mask=causal)", *WHOLE, marks=pytest.mark.slow),
        ("dict(similarity=StudentT(), mask=window(100, 100))", 5120, 90),
        pytest.param(
            "dict(similarity=Euclidean(3.0) + Bias(torch.zeros(1, 1).expand(len(q), len(q))))",
            *WHOLE,
            marks=pytest.mark.slow,
        ),
        pytest.param("dict(similarity=StudentT())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(similarity=Dot() + ALiBi())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(normalization=Hybrid())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(normalization=Entmax())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(normalization=TopK(9))", *WHOLE, marks=pytest.mark.slow),
    ],
)
def test_memory_is_linear(parent, options, n, most):
    parent.stdin.write(f"{n} {options}\n")
    parent.stdin.flush()
    grown = parent.stdout.readline()
    assert grown, parent.stderr.read()
    assert float(grown) < most, f"one float32 matrix is {n * n / 2**18:.0f} MB; the peak grew by {grown} MB"

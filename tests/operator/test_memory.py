"""The matrix is never stored: memory stays far under n×m, forward, backward and for every statistic."""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys, torch
from pathlib import Path
from limelight import *

def resident(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) / 1024

def work(n):
    q, k, v = (torch.randn(n, 8, requires_grad=True) for _ in range(3))
    A = Attention(q, k, **{"similarity": Euclidean(3.0), **eval(sys.argv[1])})
    total = (A @ v).sum() + A.entropy().sum() + A.column_mass().square().sum() + (A.T @ q).sum()
    total.backward()

torch.set_num_threads(1)
work(64)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
work(8192)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "options",
    [
        "dict()",
        pytest.param("dict(normalisation=Softmax(1.0))", marks=pytest.mark.slow),
        "dict(normalisation=Sinkhorn(2), mask=padding(keys=torch.arange(8192 if q.shape[0] > 64 else 64) % 3 > 0))",
        pytest.param("dict(mask=window(100, 100))", marks=pytest.mark.slow),
        pytest.param("dict(mask=causal)", marks=pytest.mark.slow),
        "dict(similarity=StudentT(), mask=window(100, 100))",
        pytest.param("dict(similarity=StudentT())", marks=pytest.mark.slow),
        pytest.param("dict(similarity=Dot() + ALiBi())", marks=pytest.mark.slow),
        pytest.param("dict(normalisation=Hybrid())", marks=pytest.mark.slow),
        pytest.param("dict(normalisation=Entmax())", marks=pytest.mark.slow),
        pytest.param("dict(normalisation=TopK(9))", marks=pytest.mark.slow),
    ],
)
def test_memory_is_linear(options):
    child = [sys.executable, "-W", "error", "-c", CHILD, options]
    grown = subprocess.run(child, capture_output=True, text=True, check=True, timeout=300).stdout
    assert float(grown) < 200, f"one 8192×8192 float32 matrix is 268 MB; the peak grew by {grown} MB"

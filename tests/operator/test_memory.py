"""The matrix is never stored: memory stays far under n×m, forward, backward and for every statistic."""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys, torch
N = int(sys.argv[2])
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
work(N)
print(resident("VmHWM") - before)
"""

WHOLE = (8192, 200)  # n, and MB: where it is walked over in pieces, these take some 70 MB for any n


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("options", "n", "most"),
    [
        ("dict()", 4096, 50),
        pytest.param("dict(normalisation=Softmax(1.0))", *WHOLE, marks=pytest.mark.slow),
        ("dict(normalisation=Sinkhorn(2), mask=padding(keys=torch.arange(len(q)) % 3 > 0))", 4096, 50),
        pytest.param("dict(mask=window(100, 100))", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(mask=causal)", *WHOLE, marks=pytest.mark.slow),
        ("dict(similarity=StudentT(), mask=window(100, 100))", 5120, 90),
        pytest.param("dict(similarity=StudentT())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(similarity=Dot() + ALiBi())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(normalisation=Hybrid())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(normalisation=Entmax())", *WHOLE, marks=pytest.mark.slow),
        pytest.param("dict(normalisation=TopK(9))", *WHOLE, marks=pytest.mark.slow),
    ],
)
def test_memory_is_linear(options, n, most):
    child = [sys.executable, "-W", "error", "-c", CHILD, options, str(n)]
    grown = subprocess.run(child, capture_output=True, text=True, check=True, timeout=300).stdout
    assert float(grown) < most, f"one float32 matrix is {n * n / 2**18:.0f} MB; the peak grew by {grown} MB"

"""The programs that are compared. A contender is an attention (q, k, v) ↦ out with its baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Job

Mechanism = Callable[[Tensor, Tensor, Tensor], Tensor]

SDPA, CAUSAL = "SDPA", "SDPA, causal"
WARM_UP_LENGTH = 256  # long enough that everything is loaded that a first call loads


@dataclass(frozen=True)
class Setting:
    """Shape (batch, heads, n, d), dtype and device that all contenders share."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    device: str
    threads: int

    def of_length(self, n: int) -> Setting:
        """The same setting with another length n."""
        batch, heads, _, d = self.shape
        return replace(self, shape=(batch, heads, n, d))

    def over(self, shrink: int) -> Setting:
        """The same setting with the length n / shrink."""
        return self.of_length(max(self.shape[2] // shrink, 1))

    def tensors(self) -> list[Tensor]:
        """q, k, v and the gradient of the output."""
        return _tensors(self)


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    `over` names its baseline; `shrink` divides n if the full length would take too long, for the baseline
    too; `like` names the row of Limelight that computes the same.
    """

    name: str
    build: Callable[[Setting], Mechanism]
    over: str = SDPA
    target: float | None = None
    shrink: int = 1
    like: str = ""
    kernel: Callable[[Setting], str] | None = None  # the kernel that Limelight uses for it
    compiled: bool = False  # if it is compiled for each shape, it is warmed up at the full one
    trains_on: tuple[str, ...] = ("cpu", "cuda")  # devices on which it has a backward pass


BASELINES = {
    SDPA: Contender(SDPA, lambda _: F.scaled_dot_product_attention),
    CAUSAL: Contender(CAUSAL, lambda _: _causal),
}


def forward(contender: Contender, setting: Setting) -> Job:
    """The forward pass alone, without gradients."""
    mechanism, (q, k, v, _) = contender.build(setting), setting.tensors()

    def run() -> Tensor:
        with torch.no_grad():
            return mechanism(q, k, v)

    return run


def training(contender: Contender, setting: Setting) -> Job:
    """Forward and backward."""
    mechanism, (*inputs, gradient) = contender.build(setting), setting.tensors()

    def run() -> None:
        mechanism(*(x.detach().requires_grad_() for x in inputs)).backward(gradient)

    return run


@cache
def _tensors(setting: Setting) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(setting.shape, generator=generator).to(setting.device, setting.dtype) for _ in range(4)]


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)

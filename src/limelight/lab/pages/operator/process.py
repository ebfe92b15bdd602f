"""The processes of the page of the operator: attention applied repeatedly, to the positions of points or to their values.

For each process there is a function that takes a step, and the lines of Python that a visitor can copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from limelight.attention import Attention

MOVING = ("drift", "climb", "circle")  # the processes in which points move


@dataclass(frozen=True)
class State:
    """Points x that attend to keys, the values h of the points, and the labels y that are added at each step."""

    x: Tensor
    keys: Tensor
    h: Tensor | None = None
    y: Tensor | None = None

    @property
    def largest(self) -> float:
        return max(float(each.abs().max()) for each in (self.x, self.h) if each is not None)

    def farthest(self, before: State) -> float:
        """The largest change of a coordinate or a value since the state `before`."""
        moved = self.x - before.x
        carried = moved if self.h is None or before.h is None else self.h - before.h
        return max(float(moved.abs().max()), float(carried.abs().max()))


def begin(process: str, points: Tensor, chosen: int) -> State:
    """The state before the first step."""
    if process == "circle":
        points = F.normalize(points, dim=-1)
    state = State(points, points)
    if process == "heat":
        h = torch.zeros(len(points), 1, dtype=points.dtype)
        h[chosen] = 1
        return replace(state, h=h)
    if process == "labels":
        y = torch.zeros(len(points), 2, dtype=points.dtype)
        first, second = labeled(len(points))
        y[first, 0] = y[second, 1] = 1
        return replace(state, h=y, y=y)
    return state


def labeled(n: int) -> tuple[int, int]:
    """The indices of the two of n points that have a label: at one quarter and at three quarters."""
    return n // 4, n - 1 - n // 4


def _drift(A: Attention, state: State) -> State:
    x = A @ state.x
    return State(x, x)


def _climb(A: Attention, state: State) -> State:
    return replace(state, x=A @ state.keys)


def _heat(A: Attention, state: State) -> State:
    assert state.h is not None
    return replace(state, h=A @ state.h)


def _labels(A: Attention, state: State) -> State:
    assert state.h is not None
    assert state.y is not None
    return replace(state, h=0.9 * (A @ state.h) + 0.1 * state.y)


def _circle(A: Attention, state: State) -> State:
    x = F.normalize(state.x + 0.1 * (A @ state.x), dim=-1)
    return State(x, x)


STEPS: dict[str, Callable[[Attention, State], State]] = {
    "drift": _drift,
    "climb": _climb,
    "heat": _heat,
    "labels": _labels,
    "circle": _circle,
}


def written(process: str, steps: int, chosen: int, n: int) -> tuple[list[str], list[str]]:
    """The imports, and the lines of Python that take `steps` steps: from n points `x` and `attention(q, k)` to A, x and h."""
    if process == "drift":
        return [], [*_repeated("x = attention(x, x) @ x", steps), "A = attention(x, x)"]
    if process == "climb":
        return [], ["keys = x", *_repeated("x = attention(x, keys) @ keys", steps), "A = attention(x, keys)"]
    if process == "circle":
        again = _repeated("x = F.normalize(x + 0.1 * (attention(x, x) @ x), dim=-1)", steps)
        return ["import torch.nn.functional as F"], ["x = F.normalize(x, dim=-1)", *again, "A = attention(x, x)"]
    if process == "heat":
        return ["from limelight.propagation import steps"], [
            "A = attention(x, x)",
            "h = torch.zeros(len(x), 1, dtype=x.dtype)",
            f"h[{chosen}] = 1",
            f"h = steps(A, h, {steps})",
        ]
    first, second = labeled(n)
    return [], [
        "A = attention(x, x)",
        "y = torch.zeros(len(x), 2, dtype=x.dtype)",
        f"y[{first}, 0] = y[{second}, 1] = 1",
        "h = y",
        *_repeated("h = 0.9 * (A @ h) + 0.1 * y  # tends to limelight.propagation.resolvent(A, y, 0.9)", steps),
    ]


def _repeated(line: str, steps: int) -> list[str]:
    return [f"for _ in range({steps}):", f"    {line}"] if steps else []

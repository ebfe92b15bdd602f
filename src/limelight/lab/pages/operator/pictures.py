"""The measures of P, and the pictures and texts that show them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from limelight.attention import Attention
from limelight.figures.plane import PlaneScene, plane_traces
from limelight.lab.pages.operator.process import MOVING, State, labeled
from limelight.lab.simulation import Change, numbers


@dataclass(frozen=True)
class Numbers:
    """The numbers that are drawn for one state."""

    scene: PlaneScene
    matrix: np.ndarray
    entropy: np.ndarray
    mass: np.ndarray


def measured(A: Attention, state: State, chosen: int, color: str, process: str, trail: np.ndarray | None) -> Numbers:
    """The numbers of a state, with the values that color the points."""
    matrix, entropy, mass = A.dense().numpy(), A.entropy().numpy(), A.column_mass().numpy()
    name, values, limits = _color(color, process, state, matrix[chosen], entropy, mass)
    scene = PlaneScene(
        points=state.x.numpy(),
        keys=state.keys.numpy(),
        weights=matrix[chosen],
        chosen=chosen,
        values=values,
        value=name,
        limits=limits,
        mixed=name == _SHARE,
        trail=trail,
        labeled=labeled(len(matrix)) if process == "labels" else (),
        apart=process == "climb",
    )
    return Numbers(scene, matrix, entropy, mass)


_SHARE = "share of label 1"


def _color(
    color: str, process: str, state: State, weights: np.ndarray, entropy: np.ndarray, mass: np.ndarray
) -> tuple[str, np.ndarray, tuple[float, float]]:
    n = len(weights)
    if color == "weight" or (color == "auto" and process in MOVING):
        return "weight from the chosen point", weights, (0.0, float(weights.max()))
    if color == "entropy":
        return "entropy in nats", entropy, (0.0, math.log(n))
    if color == "mass":
        return "column mass", mass, (0.0, max(2.0, float(mass.max())))
    if state.h is None:
        return "number of the point", np.arange(1.0, n + 1), (1.0, float(n))
    if state.y is None:
        return "value", (h := state.h[:, 0].numpy()), (0.0, float(h.max()))
    total = state.h.sum(-1)
    return (
        _SHARE,
        (state.h[:, 0] / total).nan_to_num(0.5).numpy(),
        (0.0, 1.0),
    )  # 0.5 for a point that no label has reached


def changes(scene: PlaneScene) -> list[Change]:
    """The changes of the picture of the plane, with arrays in binary form."""
    return [(i, {name: _short(value) for name, value in trace.items()}) for i, trace in enumerate(_moving(scene))]


def _moving(scene: PlaneScene) -> list[dict[str, Any]]:
    kept = ("x", "y")
    return [
        {
            name: value
            for name, value in trace.items()
            if name in kept or (name == "marker" and trace.get("meta") == "points")
        }
        for trace in plane_traces(scene)
    ]


def _short(value: Any) -> Any:
    return numbers(value) if isinstance(value, np.ndarray) else value


def labels(A: Attention, now: Numbers, chosen: int) -> dict[str, str]:
    """The texts with the same numbers."""
    x, y = now.scene.points[chosen]
    weights, keys = A.topk(min(3, len(now.matrix)))
    most = ", ".join(
        f"{int(key) + 1} ({weight:.2f})" for weight, key in zip(weights[chosen], keys[chosen], strict=True) if key >= 0
    )
    least = int(now.mass.argmin())
    told = (
        f"Point {chosen + 1} at ({x:.2f}, {y:.2f}): entropy {now.entropy[chosen]:.2f} nats, so its weight spreads over "
        f"about {math.exp(now.entropy[chosen]):.1f} points; column mass {now.mass[chosen]:.2f}. Most weight: {most}."
    )
    return {
        "operator-said": told.replace("-", "−"),
        "operator-said-entropy": f"Mean: {now.entropy.mean():.2f} nats.",
        "operator-said-mass": f"Smallest: {now.mass[least]:.2f}, of point {least + 1}. Largest: {now.mass.max():.2f}, of "
        f"point {int(now.mass.argmax()) + 1}. Sum: {now.mass.sum():.1f}.",
    }

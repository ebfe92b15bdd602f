"""A Python program that computes the numbers on the page, for visitors to copy."""

from __future__ import annotations

from torch import Tensor

from limelight.lab.pages.operator.mechanism import Mechanism
from limelight.lab.pages.operator.process import written

_A_LINE = 5  # points in each line


def code(points: Tensor, mechanism: Mechanism, process: str, steps: int, chosen: int) -> str:
    """The program: the points, the mechanism, the steps so far, and the measures of P."""
    imports, lines = written(process, steps, chosen, len(points))
    names = ", ".join(["Attention", *dict.fromkeys(mechanism.names)])
    head = ["import torch", *(line for line in imports if line.startswith("import"))]
    ours = [f"from limelight import {names}", *(line for line in imports if line.startswith("from"))]
    return "\n".join(
        [
            *head, "", *ours, "",
            "x = torch.tensor([", *_literal(points), "], dtype=torch.float64)",
            "", "",
            "def attention(q, k):",
            f"    return Attention(q, k, {mechanism.text})",
            "", "",
            *lines,
            "",
            f"weights = A.dense()[{chosen}]  # from point {chosen + 1}, which are a row of P",
            "entropy = A.entropy()  # of each row, in nats",
            "mass = A.column_mass()  # of each column",
            "",
        ]
    )  # fmt: skip


def _literal(points: Tensor) -> list[str]:
    pairs = [f"[{x:.3f}, {y:.3f}]" for x, y in points.tolist()]
    return [f"    {', '.join(pairs[i : i + _A_LINE])}," for i in range(0, len(pairs), _A_LINE)]

"""The mechanism that is chosen on the page: the library's objects, and the Python expression that creates them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from limelight.attention import Attention
from limelight.lab.address import Values
from limelight.mask import Mask, causal, window
from limelight.normalization import Normalization, Sigmoid, Sinkhorn, Softmax, Sparsemax, TopK
from limelight.similarity import Alignment, Cosine, Dot, Euclidean, Laplacian, Similarity, StudentT

_SCORES = {  # the score of two points x and y, with the bandwidth h
    "euclidean": "−|x − y|² / 2h²",
    "dot": "⟨x, y⟩ / h²",
    "cosine": "cos∠(x, y) / h²",
    "laplacian": "−|x − y|₁ / h",
    "student": "−log(1 + |x − y|²/h²)",
    "alignment": "(1 + cos∠(x, y)) / 2h²",
}
_MASKS: dict[str, tuple[Mask | None, str, tuple[str, ...]]] = {
    "none": (None, "", ()),
    "causal": (causal, "causal", ("causal",)),
    "window": (window(4, 4), "window(4, 4)", ("window",)),
    "others": (~window(0, 0), "~window(0, 0)", ("window",)),
}


@dataclass(frozen=True)
class Mechanism:
    """Similarity, normalization, mask and scale. `text` is their Python expression, and `names` are its imports."""

    similarity: Similarity
    normalization: Normalization
    mask: Mask | None
    scale: float | None
    text: str
    names: tuple[str, ...]
    score: str

    @classmethod
    def of(cls, values: Values) -> Mechanism:
        """The mechanism with these settings. An invalid combination raises only when it is called."""
        h, kind = float(values["bandwidth"]), str(values["similarity"])
        similarity, written, scale, said = _similarity(kind, h)
        normalization = _normalization(str(values["normalization"]), float(values["alpha"]))
        mask, masked, names = _MASKS[str(values["mask"])]
        text = f"{written}, {normalization}"
        text += f", mask={masked}" if masked else ""
        text += f", scale={said}" if said else ""
        imported = (type(similarity).__name__, type(normalization).__name__, *names)
        return cls(similarity, normalization, mask, scale, text, imported, _SCORES[kind])

    def __call__(self, q: Tensor, k: Tensor) -> Attention:
        """The operator P. Raises an error, as `Attention` does, for combinations that are not allowed."""
        return Attention(q, k, self.similarity, self.normalization, self.mask, self.scale)


def _similarity(kind: str, h: float) -> tuple[Similarity, str, float | None, str]:
    """The similarity and its expression; the scale and its expression, or None and "" for the similarity's own scale."""
    if kind == "euclidean":
        return Euclidean(h), f"Euclidean(bandwidth={h:g})", None, ""
    if kind == "laplacian":
        return Laplacian(h), f"Laplacian(bandwidth={h:g})", None, ""
    if kind == "student":
        return StudentT(h**2), f"StudentT(nu={h:g}**2)", 1.0, "1.0"
    inner = Dot() if kind == "dot" else Cosine() if kind == "cosine" else Alignment()
    return inner, f"{inner}", h**-2, f"{h:g}**-2"


def _normalization(kind: str, alpha: float) -> Normalization:
    if kind == "softmax":
        return Softmax(alpha)
    return {"sinkhorn": Sinkhorn(3), "sparsemax": Sparsemax(), "topk": TopK(5), "sigmoid": Sigmoid()}[kind]

"""A classifier of token sequences: layers of an encoder, whose outputs are averaged over all places."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.models.positions import require_size
from limelight.models.transformer import require_sequences


class SequenceClassifier(nn.Module):
    """logits = W · mean_t norm(layers(positions(embed(x))))_t + b, for sequences (n, t) of numbers in [0, tokens).

    The mean knows nothing of places, so that order counts only as far as positions and layers see it. Layers map
    vectors (n, t, width) to others of the same shape.

    Raises `InputError` for sizes below 1, and for sequences that are not (n, t) numbers in [0, tokens) with t ≥ 1.

    >>> from limelight.models.sequence_classifier import SequenceClassifier
    >>> import torch
    >>> from limelight.models.transformer import EncoderLayer
    >>> model = SequenceClassifier(10, 8, classes=2, positions=torch.nn.Identity(), layers=[EncoderLayer(8, 2, 16)])
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 2])
    """

    def __init__(
        self, tokens: int, width: int, classes: int, positions: nn.Module, layers: Iterable[nn.Module]
    ) -> None:
        super().__init__()
        for name, size in (("tokens", tokens), ("width", width), ("classes", classes)):
            require_size(name, size)
        self.tokens, self.embedding, self.positions = tokens, nn.Embedding(tokens, width), positions
        self.layers, self.norm = nn.Sequential(*layers), nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Int[Tensor, "n t"]) -> Float[Tensor, "n classes"]:
        return self.classifier(self.outputs(x).mean(1))

    def outputs(self, x: Int[Tensor, "n t"]) -> Float[Tensor, "n t width"]:
        """The vector of each token before the mean."""
        require_sequences("x", x, self.tokens)
        return self.norm(self.layers(self.positions(self.embedding(x))))

"""A softmax whose scores are multiplied by the logarithm of the number of keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limelight.heads import FINITE, POSITIVE, batch_shape_of, hold, per_row, require_count
from limelight.kernels.row_scale import log_visible_keys, scale_rows
from limelight.kernels.scores import Scores
from limelight.normalization.base_normalization import Normalization
from limelight.weights import SoftmaxWeights, Weights


class ScalableSoftmax(Normalization):
    """P_ij = softmax_j(s · log n_i · s_ij/T), where n_i is the number of keys that query i may see (SSMax, 2501.19399).

    The softmax of bounded scores spreads over all keys as their number grows. Here a key whose score is above the
    others' by more than 1/s keeps its weight, however many they are. Keys that a mask hides are not counted: under a
    causal mask n_i = i + 1, and padding changes nothing. A query that sees one key gives it all its weight.

    s is a finite number, a tensor (heads,) with one for each head, or a parameter; `ScalableSoftmax.learned(heads)` has
    one for each head. T > 0 as in `Softmax`. On the fused kernel the queries are multiplied by s · log n_i. Free energy
    and `logsumexp()` are of the multiplied scores.

    Raises `InputError` for an s that is not finite and for T ≤ 0.

    >>> import torch
    >>> from limelight import Attention, ScalableSoftmax, Softmax
    >>> for n in (10, 1000):  # one key with the score 3 among n keys with the score 0
    ...     q, k = torch.ones(1, 1), 3.0 * torch.eye(n)[:, :1]
    ...     plain, scaled = (Attention(q, k, normalization=each).dense() for each in (Softmax(), ScalableSoftmax()))
    ...     round(plain.max().item(), 2), round(scaled.max().item(), 2)
    (0.69, 0.99)
    (0.02, 1.0)
    """

    def __init__(self, s: float | Tensor = 1.0, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        self.s: float | Tensor
        hold(self, "s", s, FINITE)
        hold(self, "temperature", temperature, POSITIVE)

    @staticmethod
    def learned(heads: int, s: float = 1.0) -> ScalableSoftmax:
        """A parameter s for each head, which starts at `s`."""
        require_count("ScalableSoftmax.learned(heads=…)", heads)
        return ScalableSoftmax(nn.Parameter(torch.full((heads,) if heads > 1 else (), float(s))))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return batch_shape_of(self.s)

    @property
    def uses_column_sums(self) -> bool:
        return False

    def forward(self, scores: Scores) -> Weights:
        # With n scores between 0 and 1 a softmax gives its largest key at most e/(e + n − 1), which tends to 0.
        # Multiplied by s · log n, a key ahead of all others by γ gets the weight 1/(1 + (n − 1) n^(−sγ)) or more, which
        # tends to 1 for γ > 1/s (Nakanishi 2025).
        factor = per_row(self.s) * log_visible_keys(scores)
        if isinstance(factor, Tensor) and factor.ndim == 0:  # one learned number, which is that of every row
            factor = factor[None]
        return SoftmaxWeights(scale_rows(scores, factor))

    def extra_repr(self) -> str:
        return f"s={tuple(self.s.shape) if isinstance(self.s, Tensor) else f'{self.s:g}'}"

"""A softmax with an attention sink: a logit that takes weight and gives nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.edge_weights import EdgeWeights, along_edges
from limelight.errors import InputError
from limelight.heads import FINITE, POSITIVE, batch_shape_of, hold, hold_tensor, per_row, require, require_count
from limelight.kept import kept
from limelight.kernels.scores import Scores
from limelight.kernels.softmax_with_sink import log_share, reduce_with_sink, times, with_sink
from limelight.kernels.sparse import EdgeScores
from limelight.normalization.base_normalization import Normalization
from limelight.weights import SoftmaxWeights, TopKWeights, Weights


class SoftmaxWithSink(Normalization):
    """P_ij = exp(s_ij/T) / (exp(a/T) + Σ_l exp(s_il/T)): a softmax with one more logit a, the sink, which has no value.

    A query may thus attend to nothing: its row sums to σ(L_i − a/T) < 1, where L_i = log Σ_j exp(s_ij/T), and the sink
    takes the rest, `1 - A @ ones`. With a = 0, the default, this is the off-by-one softmax, whose denominator has a one
    more (Miller 2023). With an a that is learned for each head it is the attention of gpt-oss (2508.10925):
    `SoftmaxWithSink.learned(heads)`.

    a is a finite number, a tensor (heads,) with one for each head, a tensor (*batch, n, 1) with one for each query, or
    a parameter; T > 0 as in `Softmax`. It runs on the fused kernel, and a causal mask is allowed.

    Entropy, mean position, mean distance and free energy are those of the row divided by its sum, that is of the keys'
    own softmax. `column_mass()`, `topk` and `dense()` are of P. `logsumexp()` includes the sink, so that
    P_ij = exp(s_ij − logsumexp_i), and is a where every key is masked.

    Raises `InputError` for a sink that is not finite or fits neither heads nor queries, and for T ≤ 0.

    >>> import torch
    >>> from limelight import Attention, SoftmaxWithSink
    >>> x = torch.zeros(3, 1)
    >>> Attention(x, x, normalization=SoftmaxWithSink()).dense()[0]
    tensor([0.2500, 0.2500, 0.2500])
    """

    def __init__(self, sink: float | Tensor = 0.0, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        self.sink: float | Tensor
        if isinstance(sink, Tensor) and sink.ndim > 1 and sink.shape[-2] != 1 == sink.shape[-1]:  # one for each query
            require("SoftmaxWithSink(sink=…)", sink.flatten(), FINITE)
            hold_tensor(self, "sink", sink)
        else:
            hold(self, "sink", sink, FINITE)
        hold(self, "temperature", temperature, POSITIVE)

    @staticmethod
    def learned(heads: int, sink: float = 0.0) -> SoftmaxWithSink:
        """A sink with a parameter for each head, which starts at `sink`."""
        require_count("SoftmaxWithSink.learned(heads=…)", heads)
        return SoftmaxWithSink(nn.Parameter(torch.full((heads,) if heads > 1 else (), float(sink))))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return batch_shape_of(self.sink)

    @property
    def uses_column_sums(self) -> bool:
        return False

    def forward(self, scores: Scores) -> Weights:
        n = scores.shape[-2]
        if isinstance(self.sink, Tensor) and self.sink.ndim > 1 and self.sink.shape[-2] not in (1, n):
            raise InputError(
                f"SoftmaxWithSink(sink=…) has sinks for {self.sink.shape[-2]} queries, got scores of {n} queries"
            )
        sink = per_row(self.sink) / per_row(self.temperature)
        if isinstance(sink, Tensor) and sink.ndim == 0:  # one learned number, which is that of every row
            sink = sink[None]
        return SinkWeights(SoftmaxWeights(scores), sink)

    def extra_repr(self) -> str:
        return f"sink={tuple(self.sink.shape) if isinstance(self.sink, Tensor) else f'{self.sink:g}'}"


# The sink adds e^a to the denominator of each row, so the row is that of the keys' softmax times
#     Σ_j e^s_ij / (e^a + Σ_j e^s_ij) = e^L_i / (e^a + e^L_i) = σ(L_i − a),
# the share of the weight that the sink leaves to the keys. The kernel returns the log-sum-exp L_i together with P v, so
# that no key is added and no matrix is stored. For sums over queries, log σ(L_i − a) is one more bias of the query in
# log P_ij = s_ij − L_i + log σ(L_i − a).
@dataclass(frozen=True)
class SinkWeights(Weights):
    """P_ij = σ(L_i − a_i) softmax_j(s_ij), with L_i = log Σ_j exp s_ij."""

    keys: SoftmaxWeights
    sink: float | Float[Tensor, "*#batch #n"]
    _known_share: Float[Tensor, "*#batch n"] | None = None

    def for_rows(self) -> SinkWeights:
        return replace(self, keys=self.keys.for_rows(), _known_share=self._share)

    @property
    def scores(self) -> Scores:
        return self.keys.scores

    def apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        return reduce_with_sink(self.scores, v, self.sink)

    def apply_with_logsumexp(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        out, lse = self.scores.reduce(v)
        return times(out, log_share(lse, self.sink).exp()), with_sink(lse, self.sink)

    def apply_wide(self, v: Tensor) -> Float[Tensor, "*#batch n e"]:
        return times(along_edges(self.keys).apply_wide(v), self._share)

    def apply_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"]:
        return times(self.keys.apply_with_dropout(v, p), self._share)

    def apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*#batch m e"]:
        mean, log_mass = self._by_key.reduce(w)
        return times(mean, log_mass.exp())

    def column_mass(self) -> Float[Tensor, "*#batch m"]:
        return self._by_key.logsumexp().exp()

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        return self.keys.entropy()

    # Rows divided by their sums are those of the keys alone, also where the sink leaves them too little to be a number.
    def mean_position(self) -> Float[Tensor, "*#batch n"]:
        return along_edges(self.keys).mean_position()

    def mean_distance(self, offset: int) -> Float[Tensor, "*#batch n"]:
        return along_edges(self.keys).mean_distance(offset)

    def potential(self) -> Float[Tensor, "*#batch n"]:
        return self.keys.potential()

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        return with_sink(self.keys.logsumexp(), self.sink)

    def topk(self, k: int) -> TopKWeights:
        scores = self.scores
        if not isinstance(scores, EdgeScores):
            return super().topk(k)
        return EdgeWeights(scores, scores.softmax_on_edges()[0] * self._share[..., scores.i]).topk(k)

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        return self.keys.block(rows) * self._share[..., rows, None]

    def block_transposed(self, rows: slice) -> Float[Tensor, "*#batch r n"]:
        return self._by_key.block(rows).exp()

    @kept
    def _share(self) -> Tensor:
        """σ(L_i − a_i): the share of each query's weight that its sink leaves to the keys."""
        return log_share(self.keys.logsumexp(), self.sink).exp() if self._known_share is None else self._known_share

    @kept
    def _by_key(self) -> Scores:
        """log P_ij with keys as rows: its log-sum-exp is the log of the column mass."""
        return self.scores.log_softmax().T.add_key_bias(log_share(self.keys.logsumexp(), self.sink))

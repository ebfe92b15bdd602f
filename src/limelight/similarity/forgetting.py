"""Forgetting attention: every token has a gate, and what is behind it fades by that factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limelight.errors import DtypeError, InputError
from limelight.heads import hold_tensor, require_offset
from limelight.similarity.base_similarity import Similarity
from limelight.similarity.forms import InnerProduct, Parts
from limelight.similarity.position import Positional
from limelight.similarity.tensors import is_finite, upcast
from limelight.tracing import holds

if TYPE_CHECKING:
    from limelight.mask import Mask


class Forgetting(Positional):
    """β_ij = Σ_l log f_l over the tokens l between query and key, j < l ≤ i, scale 1 (Lin et al., 2503.02130).

    The weight of a key is multiplied by the gates f_l ∈ (0, 1] of all tokens after it up to the query, as in an LSTM:
    `Dot() + Forgetting(log_gates)`. `log_gates` (*batch, m) are numbers log f ≤ 0, one for each token, usually computed
    from the tokens by `torch.nn.functional.logsigmoid`; their batch dimensions are those of the scores, (B, heads, m).
    They get gradients. Query i is at position i + offset of the m tokens. For a key ahead of its query, which the paper
    always masks, the sum is over i < l ≤ j. With gates that are all e^−slope, β is that of `ALiBi`.

    Under a mask that is known to hide the future (`causal`, `window(before, 0)`, alone or joined with others by &), it
    is a term of the query plus a term of the key, and runs on the fused kernel. There, in float32, scores are rounded
    to some 10⁻⁷ of the sum of all log f. Where that is too much, a boolean tensor as the mask keeps all digits, in
    rectangles of scores.

    Raises `InputError` for numbers that are not finite or above 0, and for another number of keys than of gates.

    >>> import torch
    >>> from limelight import Attention, Dot, Forgetting, causal
    >>> x = torch.zeros(3, 1)
    >>> A = Attention(x, x, Dot() + Forgetting(torch.tensor([0.9, 0.5, 0.5]).log()), mask=causal)
    >>> A.dense().round(decimals=2)  # in the last row 0.25, 0.5 and 1, divided by their sum
    tensor([[1.0000, 0.0000, 0.0000],
            [0.3300, 0.6700, 0.0000],
            [0.1400, 0.2900, 0.5700]])
    """

    def __init__(self, log_gates: Float[Tensor, "*#batch m"], offset: int = 0) -> None:
        super().__init__()
        if not isinstance(log_gates, Tensor) or not log_gates.is_floating_point():
            came = getattr(log_gates, "dtype", log_gates)
            raise DtypeError(f"Forgetting(log_gates) expects a floating tensor (*batch, m), got {came!r}")
        if log_gates.ndim < 1 or not is_finite(log_gates) or not holds((log_gates.detach() <= 0).all()):
            raise InputError(
                "Forgetting(log_gates) expects finite numbers (*batch, m) that are at most 0, the logarithms of gates "
                "in (0, 1]; take them from torch.nn.functional.logsigmoid"
            )
        require_offset("Forgetting(offset=…)", offset, least=0)
        self.log_gates: Tensor
        hold_tensor(self, "log_gates", log_gates)
        self.offset = offset

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.log_gates.shape[:-1])

    def learned(self) -> tuple[Tensor, ...]:
        # The sums of many gates are large beside their differences, which would lose digits in float32. So each sum is
        # kept as two numbers: its rounding to float32, and the rest, through which its gradient flows.
        sums = self.sums()
        rounded = sums.detach().to(upcast(self.log_gates).dtype)
        return rounded[..., None, :], (sums - rounded).to(rounded.dtype)[..., None, :]

    def of(self, ahead: Int[Tensor, " t"], *learned: Float[Tensor, "*#batch _ _"]) -> Float[Tensor, "*#batch 1 t"]:
        raise NotImplementedError("β depends on both positions and not only on their difference; see `block`")

    def sums(self) -> Float[Tensor, "*#batch m"]:
        """c_j = Σ_{l ≤ j} log f_l in float64."""
        return self.log_gates.double().cumsum(-1)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        _require_positions(self.log_gates, self.offset, q, k)
        return super().parts(q, k, real)

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        at = i + self.offset
        faded = sum(c[..., 0, at, None] - c[..., j] for c in parts.shared)
        assert isinstance(faded, Tensor)
        return torch.where(at[:, None] >= j, faded, -faded)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        return self.block(self.parts(q, k), *(torch.arange(x.shape[-2], device=q.device) for x in (q, k)))

    def under(self, mask: Mask | None) -> Similarity:
        hides = mask is not None and mask.hides_ahead_of(self.offset)
        return _Faded(self) if hides else self

    def extra_repr(self) -> str:
        return f"{tuple(self.log_gates.shape)}"


class _Faded(Similarity):
    """β = c_i − c_j: forgetting under a mask that hides every key ahead of its query."""

    same_width = False

    def __init__(self, forgetting: Forgetting) -> None:
        super().__init__()
        self.forgetting = forgetting

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.forgetting.batch_shape

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        return self.forgetting.dense(q, k)

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        # With c_j = log f_0 + … + log f_j the sum over j < l ≤ i is c_i − c_j: a number of the query plus a number of
        # the key. The first cancels in the softmax of its row, the second is a key bias. Ahead of the query the sign
        # would be wrong, but there the mask hides the key.
        _require_positions(self.forgetting.log_gates, self.forgetting.offset, q, k)
        c = self.forgetting.sums().to(q.device, upcast(q).dtype)
        nothing = q.new_zeros(q.shape[-2], 0), k.new_zeros(k.shape[-2], 0)  # an inner product that is zero
        own = c[..., self.forgetting.offset : self.forgetting.offset + q.shape[-2]]
        return InnerProduct(*nothing, own, -c)


def _require_positions(log_gates: Tensor, offset: int, q: Tensor, k: Tensor) -> None:
    """Raise `InputError` unless each key and each query is at the position of a gate."""
    n, m = q.shape[-2], k.shape[-2]
    if log_gates.shape[-1] != m or offset + n > m:
        raise InputError(
            f"Forgetting has {log_gates.shape[-1]} gates, one for each token, got {m} keys and {n} queries from "
            f"position {offset} on; pass the log gates of all keys, and the queries' first position as offset"
        )

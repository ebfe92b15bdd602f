"""Slot attention: a few slots compete for the inputs, and each takes the mean of those that it wins."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limelight import check
from limelight.attention import Attention
from limelight.errors import InputError
from limelight.heads import require_count
from limelight.mask import padding
from limelight.normalization import Softmax
from limelight.similarity import Dot, Similarity


class SlotAttention(nn.Module):
    """slots ← GRU(P V, slots), slots ← slots + MLP(slots), repeated, P = Attention(Q, K, β, Softmax(alpha=1)).

    Q = W_q slots, K = W_k x and V = W_v x of the inputs x; inputs and slots pass a LayerNorm first. Each input divides
    its weight among the slots (a softmax over slots), and then each slot's weights are divided by their sum (a mean
    over inputs): this is doubly-normalized attention with the slots as queries. The sums are kept as logarithms, so
    that the paper's ε = 10⁻⁸, which prevents a division by zero, is not needed and is left out.

    `inputs` is the width of the inputs, `slots` the number of slots, `width` that of a slot, `hidden` that of the MLP's
    hidden layer, and `iterations` the number of repetitions. Slots start as μ + σ·noise, with μ and log σ learned and
    the same for all slots. The similarity is a submodule.

    Raises `InputError` for sizes below 1.

    Source: Locatello et al. 2020 (2006.15055), algorithm 1.

    >>> import torch
    >>> from limelight.nn import SlotAttention
    >>> layer = SlotAttention(inputs=32, slots=5, width=64)
    >>> layer(torch.randn(2, 100, 32)).shape
    torch.Size([2, 5, 64])
    """

    def __init__(
        self,
        inputs: int,
        slots: int,
        width: int = 64,
        hidden: int = 128,
        iterations: int = 3,
        *,
        similarity: Similarity = Dot(),
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check.instance("similarity", similarity, Similarity)
        sizes = {"inputs": inputs, "slots": slots, "width": width, "hidden": hidden, "iterations": iterations}
        for name, size in sizes.items():
            require_count(f"SlotAttention's {name}", size)
        super().__init__()
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        self.inputs, self.slots, self.width, self.iterations = inputs, slots, width, iterations
        self.similarity = similarity
        self.mu, self.log_sigma = (nn.Parameter(torch.empty(1, width, **on)) for _ in range(2))
        for start in (self.mu, self.log_sigma):
            nn.init.xavier_uniform_(start)
        self.norm_inputs, self.norm_slots, self.norm_mlp = (nn.LayerNorm(size, **on) for size in (inputs, width, width))
        self.query = nn.Linear(width, width, bias=False, **on)
        self.key, self.value = (nn.Linear(inputs, width, bias=False, **on) for _ in range(2))
        self.gru = nn.GRUCell(width, width, **on)
        self.mlp = nn.Sequential(nn.Linear(width, hidden, **on), nn.ReLU(), nn.Linear(hidden, width, **on))

    def forward(
        self,
        inputs: Float[Tensor, "*batch m inputs"],
        start: Float[Tensor, "*batch s width"] | None = None,
        real: Bool[Tensor, "*batch m"] | None = None,
    ) -> Float[Tensor, "*batch s width"]:
        """The slots after all iterations.

        `start` are the first slots, drawn by `draw` if not given; their number may differ from that of the layer.
        `real` is True for inputs that count and False for padding. Raises `InputError` for another width, and what
        `Attention` raises.
        """
        slots = self.draw(*inputs.shape[:-2]) if start is None else start
        k, v = self._keys_and_values(inputs, real)
        mask = None if real is None else padding(keys=real)
        for _ in range(self.iterations):
            q = self.query(self.norm_slots(slots))
            taken = Attention(q, k, self.similarity, Softmax(1.0), mask) @ v
            slots = self.gru(taken.flatten(0, -2), slots.to(taken.dtype).flatten(0, -2)).view(taken.shape)
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots

    def draw(self, *batch: int, slots: int | None = None) -> Float[Tensor, "*batch s width"]:
        """First slots μ + σ·noise, as many as the layer has, or `slots`."""
        count = self.slots if slots is None else slots
        require_count("SlotAttention's slots", count)
        noise = torch.randn(*batch, count, self.width, device=self.mu.device, dtype=self.mu.dtype)
        return self.mu + self.log_sigma.exp() * noise

    def assignment(
        self,
        inputs: Float[Tensor, "*batch m inputs"],
        slots: Float[Tensor, "*batch s width"],
        real: Bool[Tensor, "*batch m"] | None = None,
    ) -> Attention:
        """The operator whose row j says how input j divides its weight among these slots: the masks in pictures."""
        k, _ = self._keys_and_values(inputs, real)
        mask = None if real is None else padding(queries=real)
        return Attention(k, self.query(self.norm_slots(slots)), self.similarity, mask=mask)

    def _keys_and_values(self, inputs: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        if inputs.ndim < 2 or inputs.shape[-1] != self.inputs:
            raise InputError(f"SlotAttention expects inputs (*batch, m, {self.inputs}), got {tuple(inputs.shape)}")
        if real is not None:  # what padding holds may be NaN, which would reach the gradients of the weights
            inputs = torch.where(real[..., None], inputs, 0)
        inputs = self.norm_inputs(inputs)
        return self.key(inputs), self.value(inputs)

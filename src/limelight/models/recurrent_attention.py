"""An LSTM whose next step gets its last state and an attention-weighted average of its earlier states.

    (h_t, C_t) = LSTM(x_t, s_{t−1}, C_{t−1})
    c_t = Σ_{i ∈ S_t} α_it h_i,    α_it = softmax_i ⟨W s_{t−1}, h_i⟩ / √d
    s_t = ½ (h_t + c_t)

S_t is the set of states that are remembered: it is all that the networks of this module differ in. A state in it is one
step away from the present, however old it is, so a gradient reaches it in one step too. The equations are those of Kerg
et al. (2006.09471) and of their program, but for the score, which is additive there, vᵀ tanh(W s + U h).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.errors import InputError


class Memory(ABC):
    """The states of a sequence that are remembered, to which its next step attends."""

    @abstractmethod
    def append(self, state: Float[Tensor, "*batch d"]) -> None:
        """Remember this state, the newest one, and forget others if there is no room."""

    @abstractmethod
    def states(self) -> Float[Tensor, "*batch m d"]:
        """The states that are remembered, from old to new."""

    def attended(self, attention: Attention) -> None:  # noqa: B027 (a memory need not do anything here)
        """Take note of the weights that the states have got, which a memory may use to choose among them."""

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Everything that the memory keeps."""


class LastStates(Memory):
    """The last `size` states; all of them if `size` is None.

    >>> import torch
    >>> from limelight.models.recurrent_attention import LastStates
    >>> memory = LastStates(2)
    >>> for value in (1.0, 2.0, 3.0):
    ...     memory.append(torch.tensor([value]))
    >>> memory.states()
    tensor([[2.],
            [3.]])
    """

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise InputError(f"LastStates(size) expects a whole number ≥ 1, or None for all states; got {size!r}")
        self._states: deque[Tensor] = deque(maxlen=size)

    def append(self, state: Float[Tensor, "*batch d"]) -> None:
        self._states.append(state)

    def states(self) -> Float[Tensor, "*batch m d"]:
        return torch.stack(tuple(self._states), -2)

    def tensors(self) -> list[Tensor]:
        return list(self._states)


class RecurrentAttention(nn.Module):
    """Several networks of the equations above, each with its own weights, which run side by side.

    There is one network for each of the generators, from which its weights are drawn. `memory` makes an empty memory
    for each batch of sequences; without it s_t = h_t, which is an LSTM. The bias of all forget gates starts at
    `forget`. Weights have the networks as their first dimension, so that one product serves all of them; no network
    reads anything of another.

    >>> import torch
    >>> from limelight.models.recurrent_attention import LastStates, RecurrentAttention
    >>> generators = [torch.Generator().manual_seed(seed) for seed in range(5)]
    >>> networks = RecurrentAttention(tokens=6, width=32, outputs=4, generators=generators, memory=LastStates)
    >>> networks(torch.randint(6, (5, 16, 30)), last=3).shape  # 5 networks, each with 16 sequences of 30 tokens
    torch.Size([5, 16, 3, 4])
    """

    def __init__(
        self, tokens: int, width: int, outputs: int, generators: Sequence[torch.Generator],
        memory: Callable[[], Memory] | None = None, forget: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()

        def weight(inputs: int, outputs: int) -> nn.Parameter:
            """Numbers of the standard deviation √(2 / (inputs + outputs)), after Glorot and Bengio."""
            deviation = (2 / (inputs + outputs)) ** 0.5
            return nn.Parameter(
                deviation * torch.stack([torch.randn(inputs, outputs, generator=g) for g in generators])
            )

        self.width, self.memory, networks = width, memory, len(generators)
        # The columns belong to the input gate, the forget gate, the output gate and the new content, in this order.
        self.input = weight(tokens, 4 * width)
        self.recurrent = weight(width, 4 * width)
        self.bias = nn.Parameter(torch.zeros(networks, 1, 4 * width))
        self.query = weight(width, width) if memory is not None else None
        self.output = weight(width, outputs)
        self.output_bias = nn.Parameter(torch.zeros(networks, 1, outputs))
        with torch.no_grad():
            self.bias[..., width : 2 * width] = forget

    def forward(self, tokens: Int[Tensor, "r n t"], last: int) -> Float[Tensor, "r n last outputs"]:
        """The outputs of the networks at the `last` steps."""
        return self.said(self.unrolled(tokens)[-last:])

    def said(self, states: list[Float[Tensor, "r n width"]]) -> Float[Tensor, "r n s outputs"]:
        """The outputs of these states."""
        stacked = torch.stack(states, -2)
        flat = torch.baddbmm(self.output_bias, stacked.flatten(1, 2), self.output)
        return flat.unflatten(1, stacked.shape[1:3])

    def gradient_lengths(
        self, tokens: Int[Tensor, "r n t"], loss: Callable[[Tensor], Float[Tensor, "r n"]], last: int
    ) -> Float[Tensor, "r t"]:
        """|∂L/∂h_t| for every step t, the mean over the sequences, where L = `loss` of the outputs of the `last` steps.

        A state acts on the loss through all later steps, and through its own output.
        """
        states = self.unrolled(tokens)
        gradients = torch.autograd.grad(loss(self.said(states[-last:])).sum(), states)
        return torch.stack([gradient.norm(dim=-1).mean(-1) for gradient in gradients], -1)

    def unrolled(self, tokens: Int[Tensor, "r n t"]) -> list[Float[Tensor, "r n width"]]:
        """The states h_1 … h_t of all steps."""
        reading = self.start()
        return [reading.step(x) for x in self.inputs(tokens).unbind(-2)]

    def inputs(self, tokens: Int[Tensor, "r n t"]) -> Float[Tensor, "r n t gates"]:
        """What each token adds to the gates of its step, for all steps at once."""
        one_hot = F.one_hot(tokens.flatten(1, 2), self.input.shape[1]).to(self.input.dtype)
        return torch.baddbmm(self.bias, one_hot, self.input).unflatten(1, tokens.shape[1:])

    def start(self) -> SequenceState:
        """Sequences of which nothing has been read."""
        return SequenceState(self, None if self.memory is None else self.memory())


class SequenceState:
    """A batch of sequences while it is read: the state s, the cell's content C, and the memory. All begin at zero."""

    def __init__(self, network: RecurrentAttention, memory: Memory | None) -> None:
        self.network, self.memory = network, memory
        self.s = self.content = network.bias.new_zeros(())

    def step(self, x: Float[Tensor, "r n gates"]) -> Float[Tensor, "r n width"]:
        """h_t, after the part x of the gates that comes from the token."""
        net = self.network
        gates = torch.baddbmm(x, self.s.expand(*x.shape[:-1], net.width), net.recurrent)
        enter, forget, out = gates[..., : 3 * net.width].sigmoid().chunk(3, -1)
        self.content = torch.addcmul(enter * gates[..., 3 * net.width :].tanh(), forget, self.content)
        h = out * self.content.tanh()
        self.s = h if self.memory is None else 0.5 * (h + self._attended(h, self.memory))
        return h

    def _attended(self, h: Float[Tensor, "r n width"], memory: Memory) -> Float[Tensor, "r n width"]:
        """c_t, the average of the states in the memory, to which h_t belongs."""
        memory.append(h)
        states = memory.states()
        assert self.network.query is not None
        query = torch.bmm(self.s.expand_as(h), self.network.query)
        attention = Attention(query[..., None, :], states)
        memory.attended(attention)
        return (attention @ states)[..., 0, :]

    def tensors(self) -> list[Tensor]:
        """Everything that the next step needs of the steps before it."""
        return [self.s, self.content, *([] if self.memory is None else self.memory.tensors())]

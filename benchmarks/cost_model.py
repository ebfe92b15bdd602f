"""What sharded attention costs on each rank: floating-point work, bytes sent, memory and time, from n, p and a machine.

Of n tokens each of p ranks has n/p, and its keys go round in c pieces. In each of p steps for a piece a rank computes
the blocks of its queries and the keys that visit it, while the next keys are on their way. A step takes the longer of
both. In the backward pass the gradients of the keys travel too, while the next block is computed; only the last ones
have to be waited for.

    pairs      n²/p on each rank, half of it under a causal mask
    forward    4 d H operations for each pair: scores, and the weighted sum of the values
    backward   10 d H: five products of the same size as the two of the forward pass
    sent       2 d G numbers for each token and hop (keys and values of G key heads), p − 1 hops; in the backward pass
               the same again, and as many gradients, which are float32
    memory     q, k, v, the output and their gradients; of 1/c of them, the keys and values of two other ranks, and the
               gradients of three
"""

from __future__ import annotations

from dataclasses import dataclass

from limelight.distributed import order

FORWARD, BACKWARD = 4, 10  # operations for each pair of tokens, head and column
GRADIENT_BYTES = 4  # gradients travel in float32


@dataclass(frozen=True)
class Layer:
    """A layer of H query heads and G key heads of width d, whose numbers have so many bytes."""

    heads: int
    key_heads: int
    width: int
    bytes: int
    is_causal: bool


@dataclass(frozen=True)
class Machine:
    """Ranks that compute `rate` operations a second, and send `fast` bytes a second within a node, else `slow`."""

    rate: float
    fast: float
    slow: float
    node: int
    memory: float

    def link(self, ranks: int) -> float:
        """The bytes a second of the slowest link of the ring."""
        return self.fast if ranks <= self.node else self.slow


@dataclass(frozen=True)
class Cost:
    """What one forward and backward pass of a layer costs a rank; seconds in which it only waits are `waiting`."""

    work: float
    sent: float
    memory: float
    computing: float
    waiting: float

    @property
    def seconds(self) -> float:
        return self.computing + self.waiting


def sent(tokens: int, ranks: int, layer: Layer) -> tuple[float, float]:
    """The bytes that a rank sends in the forward pass and in the backward pass."""
    numbers = 2 * layer.width * layer.key_heads * tokens / ranks * (ranks - 1)
    return numbers * layer.bytes, numbers * (layer.bytes + GRADIENT_BYTES)


def cost(tokens: int, ranks: int, layer: Layer, machine: Machine) -> Cost:
    """The cost of one layer's forward and backward pass."""
    pairs = tokens**2 / ranks * (0.5 if layer.is_causal else 1)
    forward, backward = (each * layer.width * layer.heads * pairs / machine.rate for each in (FORWARD, BACKWARD))
    there, back = (each / machine.link(ranks) for each in sent(tokens, ranks, layer))
    last = (back - there) / max(ranks - 1, 1) / pieces(tokens, ranks)  # the last hop of the gradients of a piece
    waiting = max(there - forward, 0) + max(back - backward, 0) + last
    return Cost(
        work=(forward + backward) * machine.rate,
        sent=sum(sent(tokens, ranks, layer)),
        memory=memory(tokens, ranks, layer),
        computing=forward + backward,
        waiting=waiting,
    )


def memory(tokens: int, ranks: int, layer: Layer) -> float:
    """The bytes of a rank's own rows and gradients, and of the keys, values and gradients that visit it."""
    rows = tokens / ranks * layer.width
    queries, keys = rows * layer.heads, 2 * rows * layer.key_heads
    visiting = keys / pieces(tokens, ranks) if ranks > 1 else 0
    return layer.bytes * (4 * queries + 2 * keys + 2 * visiting) + GRADIENT_BYTES * (queries + 3 * visiting)


def pieces(tokens: int, ranks: int) -> int:
    """The number of pieces in which the keys of a rank go round."""
    return int(min(max(tokens // ranks // order.SHORTEST_PIECE, 1), order.MOST_PIECES))


def shortest(layer: Layer, machine: Machine, ranks: int) -> float:
    """The tokens for each rank from which keys and values arrive, in the forward pass, before they are needed."""
    pairs = 0.5 if layer.is_causal else 1
    sent_each = 2 * layer.width * layer.key_heads * layer.bytes / machine.link(ranks)
    return sent_each / (FORWARD * layer.width * layer.heads * pairs / machine.rate)


def limit(found: Cost, machine: Machine) -> str:
    """What is reached first: the memory of a rank, its link, or its arithmetic."""
    if found.memory > machine.memory:
        return "memory"
    return "link" if found.waiting > found.computing else "arithmetic"

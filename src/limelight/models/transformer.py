"""The encoder–decoder Transformer in parts that can be read, exchanged and left out one by one.

Every part adds something to a stream h of one vector for each token: h ← h + f(norm h). Attention is the part that
moves information between tokens; the feed-forward network works on each token by itself. A part that is left out is
replaced by `Skip`, which adds nothing.

Sequences are whole numbers, some of which have a meaning of their own (`limelight.data.special_tokens`): `PAD` fills up
the shorter sequences of a batch at their ends, `BEGIN` starts what the decoder writes, and `END` ends it.

Source: Vaswani et al. 2017 (1706.03762), with the norm before each part (Xiong et al. 2020, 2002.04745).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.data.special_tokens import PAD
from limelight.errors import DtypeError, InputError
from limelight.mask import Mask, causal
from limelight.models.decoding import Step
from limelight.models.mlp import mlp
from limelight.models.positions import require_size
from limelight.nn import MultiheadAttention
from limelight.similarity import Dot, Similarity


class ResidualAttention(nn.Module):
    """h + MultiHead(norm h, x, x): each token attends to the tokens x, and the result is added to the token.

    In self-attention x is norm h, the same sequence; in cross-attention x is the memory, the encoder's output. Without
    the sum a token would keep nothing of itself; without the norm the sums would grow from layer to layer.

    >>> import torch
    >>> from limelight.models.transformer import ResidualAttention
    >>> ResidualAttention(width=8, heads=2)(torch.randn(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int, similarity: Similarity | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = MultiheadAttention(width, heads, batch_first=True, similarity=similarity or Dot())

    def forward(
        self,
        h: Float[Tensor, "n t width"],
        memory: Float[Tensor, "n s width"] | None = None,
        padding: Bool[Tensor, "n s"] | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "n t width"]:
        """padding is True for keys that are filled up; mask says which keys each query may see, None for all."""
        x, keys = self._normed(h, memory)
        return h + self.attention(x, keys, keys, key_padding_mask=padding, attn_mask=mask, need_weights=False)[0]

    def weights(
        self,
        h: Float[Tensor, "n t width"],
        memory: Float[Tensor, "n s width"] | None = None,
        padding: Bool[Tensor, "n s"] | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "n heads t s"]:
        """The attention weights of each head, for pictures."""
        x, keys = self._normed(h, memory)
        found = self.attention(x, keys, keys, padding, attn_mask=mask, average_attn_weights=False)[1]
        assert found is not None
        return found

    def _normed(self, h: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """The tokens from which queries are made, and those from which keys and values are made."""
        x = self.norm(h)
        return x, x if memory is None else memory


class ResidualFeedForward(nn.Module):
    """h + W₂ relu(W₁ norm h + b₁) + b₂: what a token has gathered is combined, in each token by the same network.

    Attention's output is a mean of values, which is linear in them; products and cases of several values are made here.

    >>> import torch
    >>> from limelight.models.transformer import ResidualFeedForward
    >>> ResidualFeedForward(width=8, hidden=32)(torch.randn(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        require_size("hidden", hidden)
        self.norm, self.network = nn.LayerNorm(width), mlp(width, hidden, width)

    def forward(self, h: Float[Tensor, "n t width"]) -> Float[Tensor, "n t width"]:
        return h + self.network(self.norm(h))


class Skip(nn.Module):
    """h ↦ h, whatever else is given: it stands where a part of a layer is left out, such as its cross-attention.

    >>> import torch
    >>> from limelight.models.transformer import Skip
    >>> Skip()(torch.ones(1), torch.zeros(5))
    tensor([1.])
    """

    def forward(self, h: Tensor, *others: object, **more: object) -> Tensor:
        return h


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network: tokens (n, t, width) ↦ (n, t, width).

    Every token sees all others at once, in both directions.

    >>> import torch
    >>> from limelight.models.transformer import EncoderLayer
    >>> EncoderLayer(width=8, heads=2, hidden=32)(torch.randn(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int, hidden: int, similarity: Similarity | None = None) -> None:
        super().__init__()
        self.self_attention: nn.Module = ResidualAttention(width, heads, similarity)
        self.feed_forward: nn.Module = ResidualFeedForward(width, hidden)

    def forward(
        self, h: Float[Tensor, "n t width"], padding: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t width"]:
        return self.feed_forward(self.self_attention(h, padding=padding))


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention to the memory (n, s, width), and the feed-forward network.

    With the causal mask a place sees only what is written before it, so that all places can be trained at once on what
    comes next; cross-attention reads the source.

    >>> import torch
    >>> from limelight.models.transformer import DecoderLayer
    >>> DecoderLayer(width=8, heads=2, hidden=32)(torch.randn(1, 3, 8), memory=torch.randn(1, 5, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, width: int, heads: int, hidden: int, mask: Mask | None = causal) -> None:
        super().__init__()
        self.self_attention: nn.Module = ResidualAttention(width, heads)
        self.cross_attention: nn.Module = ResidualAttention(width, heads)
        self.feed_forward: nn.Module = ResidualFeedForward(width, hidden)
        self.mask = mask

    def forward(
        self,
        h: Float[Tensor, "n t width"],
        memory: Float[Tensor, "n s width"],
        padding: Bool[Tensor, "n s"] | None = None,
    ) -> Float[Tensor, "n t width"]:
        h = self.self_attention(h, mask=self.mask)
        return self.feed_forward(self.cross_attention(h, memory, padding))

    def cross_weights(
        self,
        h: Float[Tensor, "n t width"],
        memory: Float[Tensor, "n s width"],
        padding: Bool[Tensor, "n s"] | None = None,
    ) -> Float[Tensor, "n heads t s"]:
        """Where each place of the target looks in the source."""
        if not isinstance(self.cross_attention, ResidualAttention):
            raise InputError("this decoder layer has no cross-attention whose weights could be shown")
        return self.cross_attention.weights(self.self_attention(h, mask=self.mask), memory, padding)


class Transformer(nn.Module):
    """p(target_{t+1} | target_{≤t}, source): an encoder reads the source, a decoder writes the target token by token.

    tokens: the number of different tokens, `PAD`, `BEGIN` and `END` included. positions: a module that adds positions
    to vectors (n, t, width), such as `SinusoidalPositions(width)`; `nn.Identity()` for none. mask: what each place of
    the target may see of the target. Source and target have one table of embeddings.

    Raises `InputError` for sizes below 1, a width that `heads` does not divide, sequences that are not (n, t) whole
    numbers in [0, tokens) with t ≥ 1, and a source of nothing but padding.

    Source: Vaswani et al. 2017 (1706.03762).

    >>> import torch
    >>> from limelight.data.special_tokens import BEGIN
    >>> from limelight.models.transformer import Transformer
    >>> from limelight.models.positions import SinusoidalPositions
    >>> model = Transformer(tokens=10, width=8, heads=2, hidden=16, layers=1, positions=SinusoidalPositions(8))
    >>> source, target = torch.tensor([[3, 4, 5]]), torch.tensor([[BEGIN, 5]])
    >>> model(source, target).shape  # a score for each token that could follow each of the two
    torch.Size([1, 2, 10])
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        hidden: int,
        layers: int,
        positions: nn.Module,
        mask: Mask | None = causal,
    ) -> None:
        super().__init__()
        for name, size in (("tokens", tokens), ("width", width), ("layers", layers)):
            require_size(name, size)
        self.tokens, self.embedding, self.positions = tokens, nn.Embedding(tokens, width), positions
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, mask) for _ in range(layers))
        self.encoded_norm, self.decoded_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.classifier = nn.Linear(width, tokens)

    def forward(self, source: Int[Tensor, "n s"], target: Int[Tensor, "n t"]) -> Float[Tensor, "n t tokens"]:
        return self.decode(target, self.encode(source), padding_of(source))

    def encode(self, source: Int[Tensor, "n s"]) -> Float[Tensor, "n s width"]:
        """The memory: one vector for each token of the source."""
        require_sequences("source", source, self.tokens)
        padding, h = padding_of(source), self.positions(self.embedding(source))
        for layer in self.encoder:
            h = layer(h, padding)
        return self.encoded_norm(h)

    def decode(
        self,
        target: Int[Tensor, "n t"],
        memory: Float[Tensor, "n s width"],
        padding: Bool[Tensor, "n s"] | None = None,
    ) -> Float[Tensor, "n t tokens"]:
        """The scores of the token that follows each place of the target."""
        h = self._read(target)
        for layer in self.decoder:
            h = layer(h, memory, padding)
        return self.classifier(self.decoded_norm(h))

    def next_token(self, source: Int[Tensor, "n s"], beams: int = 1) -> Step:
        """The step function for `greedy`, and with more than one beam for `beam_search`: the source is read once."""
        memory, padding = self.encode(source), padding_of(source)
        memory = memory.repeat_interleave(beams, 0)
        padding = None if padding is None else padding.repeat_interleave(beams, 0)
        return lambda prefixes: self.decode(prefixes, memory, padding)[:, -1]

    def cross_weights(self, source: Int[Tensor, "n s"], target: Int[Tensor, "n t"]) -> Float[Tensor, "n heads t s"]:
        """The weights of the last layer's cross-attention: where the model looks while it writes each token."""
        memory, padding, h = self.encode(source), padding_of(source), self._read(target)
        *first, last = self.decoder
        for layer in first:
            h = layer(h, memory, padding)
        assert isinstance(last, DecoderLayer)
        return last.cross_weights(h, memory, padding)

    def _read(self, target: Int[Tensor, "n t"]) -> Float[Tensor, "n t width"]:
        require_sequences("target", target, self.tokens)
        return self.positions(self.embedding(target))


def padding_of(source: Int[Tensor, "n s"]) -> Bool[Tensor, "n s"] | None:
    """True where a source is filled up, or None if none is.

    >>> import torch
    >>> from limelight.data.special_tokens import PAD
    >>> from limelight.models.transformer import padding_of
    >>> padding_of(torch.tensor([[3, 4], [3, PAD]]))
    tensor([[False, False],
            [False,  True]])
    """
    padding = source == PAD
    if padding.all(-1).any():
        raise InputError("a source expects at least one token that is not padding, and one of these has none")
    return padding if padding.any() else None


def require_sequences(name: str, sequences: Tensor, tokens: int) -> None:
    """Raise unless the sequences are whole numbers (n, t) in [0, tokens), with t ≥ 1."""
    if sequences.dtype not in (torch.int64, torch.int32):
        raise DtypeError(f"{name} expects whole numbers (int64 or int32), got {sequences.dtype}")
    if sequences.ndim != 2 or 0 in sequences.shape:
        raise InputError(f"{name} expects the shape (n, t) with n ≥ 1 and t ≥ 1, got {tuple(sequences.shape)}")
    least, most = int(sequences.min()), int(sequences.max())
    if least < 0 or most >= tokens:
        raise InputError(f"{name} expects tokens from 0 to {tokens - 1}, got tokens from {least} to {most}")

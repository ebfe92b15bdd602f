"""A Transformer of two layers whose weights are written down instead of learned: what each of its heads does is known.

Each token's vector has parts: its own code, the codes of the two tokens before it, a guess of the token that follows,
and its position. A head's queries and keys each read one part, and its output writes into one:

    layer 0   0  attends to the token before, and writes its code into the part for it
              1  attends to the one before that
              2  attends to every token equally, and adds their codes to the guess, lightly
              3  attends to the first token, and moves nothing: an attention sink
    layer 1   0  attends to what followed an earlier occurrence of the same token: an induction head
              1  the same for the last two tokens, with more effect on the guess
              2  attends to the occurrences of the same token, and moves nothing
              3  attends to the token itself, and moves nothing

An induction head reads what a head of layer 0 wrote, so that it fails without it. Heads 0 and 1 of layer 1 attend to
the first token where they find no match.

Source: the induction heads of Olsson et al. 2022 (2209.11895), built by hand.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.data.byte_text import BEGIN, TOKENS, following

HEADS = 4
_CODE = 64  # numbers of a token's code, and of a head
_OWN, _BEFORE, _SECOND, _GUESS, _PLACE = (slice(i * _CODE, (i + 1) * _CODE) for i in range(5))
_ONE, _FIRST = 5 * _CODE, 5 * _CODE + 1  # a part that is 1 at every token, and one that is 1 at the first
WIDTH = 5 * _CODE + 2


class HandBuiltAttention(nn.Module):
    """h + Σ_heads softmax(q kᵀ / √64) v W_O, with fixed weights, each (width, heads · 64) or its transpose."""

    def __init__(self, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal
        for name in ("query", "key", "value"):
            self.register_buffer(name, torch.zeros(WIDTH, HEADS * _CODE))
        self.register_buffer("out", torch.zeros(HEADS * _CODE, WIDTH))

    def forward(self, h: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        weights = (self.get_buffer(name) for name in ("query", "key", "value"))
        q, k, v = ((h @ w).unflatten(-1, (HEADS, _CODE)).transpose(1, 2) for w in weights)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=self.is_causal)
        return h + found.transpose(1, 2).flatten(2) @ self.get_buffer("out")

    def attend(self, head: int, query: slice, key: slice, turn: Tensor | None = None, strength: float = 1.0) -> None:
        """This head's score of a query and a key: strength · ⟨turn · query's part, key's part⟩."""
        own, turn = _head(head), torch.eye(_CODE) if turn is None else turn
        self.get_buffer("query")[query, own] += math.sqrt(_CODE) * strength * turn.T
        self.get_buffer("key")[key, own] += torch.eye(_CODE)

    def rest_on_the_first(self, head: int, score: float) -> None:
        """Give the first token this score more than the others, whatever the query."""
        at = head * _CODE + _CODE - 1  # a number of the head that this feature alone uses in full
        self.get_buffer("query")[_ONE, at] += math.sqrt(_CODE) * score
        self.get_buffer("key")[_FIRST, at] += 1

    def move(self, head: int, into: slice, strength: float = 1.0) -> None:
        """This head moves tokens' own codes into a part."""
        self.get_buffer("value")[_OWN, _head(head)] += torch.eye(_CODE)
        self.get_buffer("out")[_head(head), into] += strength * torch.eye(_CODE)


def _head(number: int) -> slice:
    return slice(number * _CODE, (number + 1) * _CODE)


class HandBuiltEncoder(nn.Module):
    """tokens (batch, n) ↦ their vectors (batch, n, width) after both layers.

    With `is_causal` a token sees those before it, without it those after it, too.

    >>> import torch
    >>> from limelight.data.byte_text import encoded
    >>> from limelight.models.hand_built import HandBuiltEncoder
    >>> HandBuiltEncoder()(encoded("abc")[None]).shape
    torch.Size([1, 4, 322])
    """

    def __init__(self, is_causal: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        codes = torch.randint(2, (TOKENS, _CODE), generator=generator) * 2.0 - 1
        codes[:, -1] = 0  # left to `rest_on_the_first`
        self.register_buffer("codes", F.normalize(codes, dim=-1))
        self.register_buffer("speeds", math.pi * torch.rand(_CODE // 2, generator=generator))
        first, second = HandBuiltAttention(is_causal), HandBuiltAttention(is_causal)
        self.layers = nn.ModuleList([first, second])
        self._build_first(first)
        _build_second(second)

    def forward(self, input_ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch n width"]:
        h = torch.zeros(*input_ids.shape, WIDTH)
        h[..., _OWN], h[..., _PLACE] = self.get_buffer("codes")[input_ids], self._places(input_ids.shape[-1])
        h[..., _ONE], h[..., _FIRST] = 1, (input_ids == BEGIN).float()
        for layer in self.layers:
            h = layer(h)
        return h

    def _places(self, n: int) -> Float[Tensor, "n code"]:
        """cos ωi and sin ωi for many ω: ⟨place_i, place_j⟩ = Σ cos ω(i − j), which is largest for i = j."""
        angles = torch.arange(n)[:, None] * self.get_buffer("speeds")
        return torch.cat([angles.cos(), angles.sin()], -1) / math.sqrt(_CODE // 2)

    def _back(self, offset: int) -> Float[Tensor, "code code"]:
        """The turn that takes place_i to place_{i − offset}."""
        angles = offset * self.get_buffer("speeds")
        cos, sin = angles.cos().diag(), angles.sin().diag()
        return torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])

    def _build_first(self, layer: HandBuiltAttention) -> None:
        for head, offset, into in ((0, 1, _BEFORE), (1, 2, _SECOND)):
            layer.attend(head, _PLACE, _PLACE, self._back(offset), strength=30)
            layer.move(head, into)
        layer.move(2, _GUESS)
        layer.rest_on_the_first(3, score=8)


class HandBuilt(nn.Module):
    """logits_i = log p(next | token_i) + ⟨codes, guess_i⟩: what usually follows a byte, and what followed it here.

    A language model of bytes (`limelight.data.byte_text`), which continues a repeated text as it went on before.

    >>> import torch
    >>> from limelight.data.byte_text import encoded
    >>> from limelight.models.hand_built import HandBuilt
    >>> chr(HandBuilt()(encoded("to be or not to b")[None])[0, -1].argmax())
    'e'
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = HandBuiltEncoder()

    def forward(self, input_ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch n tokens"]:
        guess = self.encoder(input_ids)[..., _GUESS]
        return following()[input_ids] + guess @ self.encoder.get_buffer("codes").T


def _build_second(layer: HandBuiltAttention) -> None:
    layer.attend(0, _OWN, _BEFORE, strength=30)
    layer.rest_on_the_first(0, score=20)
    layer.move(0, _GUESS)
    mixed = torch.linalg.qr(torch.randn(_CODE, _CODE, generator=torch.Generator().manual_seed(1))).Q
    layer.attend(1, _OWN, _BEFORE, strength=25)
    layer.get_buffer("query")[_BEFORE, _head(1)] += math.sqrt(_CODE) * 25 * mixed
    layer.get_buffer("key")[_SECOND, _head(1)] += mixed
    layer.rest_on_the_first(1, score=38)
    layer.move(1, _GUESS, strength=4)
    layer.attend(2, _OWN, _OWN, strength=30)
    layer.attend(3, _PLACE, _PLACE, strength=30)

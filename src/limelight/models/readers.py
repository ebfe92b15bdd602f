"""The two shipped models as readers of a text, and untrained copies of them.

A claim on trained models is judged over texts and models. What both models share is here under one name: how a text
becomes tokens, where the blocks are, and which maps make queries and keys.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.models.fresh import fresh
from limelight.models.shipped import (
    LANGUAGE_MODEL,
    SENTENCE_ENCODER,
    language_model,
    language_tokenizer,
    sentence_encoder,
)

LANGUAGE, ENCODER = "SmolLM2", "MiniLM"


@dataclass(frozen=True)
class Reader:
    """A model and its tokenizer: SmolLM2 reads from left to right, MiniLM in both directions."""

    model: Any
    tokenizer: Any

    def tokens(self, text: str) -> dict[str, Tensor]:
        """The arguments with which the model reads this text."""
        return dict(self.tokenizer(text, return_tensors="pt"))


def weights_of_readers() -> dict[str, str]:
    """The SHA-256 of both models' weights, for the names of results."""
    return {LANGUAGE: LANGUAGE_MODEL.sha256, ENCODER: SENTENCE_ENCODER.sha256}


def missing_readers() -> str:
    """What is not installed of both models, and how to install it, in a sentence; empty if nothing is missing."""
    return "; ".join(problem for model in (LANGUAGE_MODEL, SENTENCE_ENCODER) if (problem := model.missing()))


@cache
def reader(name: str) -> Reader:
    """SmolLM2 or MiniLM, by its name."""
    return Reader(*sentence_encoder()) if name == ENCODER else Reader(language_model(), language_tokenizer())


def blocks(model: Any) -> Sequence[nn.Module]:
    """The blocks of a Llama or a BERT, from the first to the last: attention and a network for each token."""
    return list(model.encoder.layer if hasattr(model, "encoder") else model.model.layers)


def projections(block: Any) -> tuple[nn.Linear, nn.Linear]:
    """The maps of a block that make queries and keys, W_Q and W_K, of all its heads."""
    if hasattr(block, "self_attn"):
        return block.self_attn.q_proj, block.self_attn.k_proj
    own = block.attention.self
    return own.query, own.key


@torch.no_grad()
def states(model: Any, inputs: dict[str, Tensor]) -> Float[Tensor, "depths n width"]:
    """What each token is before the first block and after each, of one text.

    In SmolLM2 the last one is what enters the final norm, so that all depths are alike: sums of what the blocks wrote.
    In MiniLM each block ends with a layer norm.
    """
    found: list[Tensor] = []
    first, *_ = parts = blocks(model)
    hooks = [first.register_forward_pre_hook(lambda own, args: found.append(args[0]))]
    hooks += [part.register_forward_hook(lambda own, args, out: found.append(_tensor(out))) for part in parts]
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([each[0] for each in found])


def _tensor(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def untrained(model: Any, seed: int) -> Any:
    """The same architecture with the weights with which its training would begin."""
    return fresh(lambda: type(model)(copy.deepcopy(model.config)), seed).eval().requires_grad_(False)


@torch.no_grad()
def scrambled(model: Any, seed: int) -> Any:
    """The trained model with each matrix of its blocks replaced by random numbers of the same standard deviation.

    Its embeddings, norms and biases stay. So its attention and its networks are as strong as the trained ones, and all
    that they learned is gone. So a difference from the trained model is not due to the size of its weights.
    """
    twin, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for block in blocks(twin):
        for weight in block.parameters():
            if weight.ndim == 2:
                weight.normal_(0, float(weight.std()), generator=generator)
    return twin

"""The models of the page: how each is loaded, reads a text, and names its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.data import byte_text
from limelight.lab.pages.microscope.settings import SENTENCES
from limelight.microscope.tokens import readable
from limelight.models import shipped
from limelight.models.hand_built import HandBuilt, HandBuiltEncoder


@dataclass(frozen=True)
class Reader:
    """A model and its tokenizer. `rows` are a text's logits of the next tokens, or the states of an encoder.

    `predicts` is True for a language model. An encoder's sentence vector is the mean of its states, and `others` are
    those of `SENTENCES`.
    """

    label: str
    model: nn.Module
    tokenizer: Any
    encode: Callable[[str], Int[Tensor, "1 n"]]
    rows: Callable[[Int[Tensor, "1 n"]], Float[Tensor, "n width"]]
    predicts: bool
    others: Float[Tensor, "sentences width"] | None = None

    @property
    def separators(self) -> set[int]:
        """The tokens that separate or end texts."""
        found = {getattr(self.tokenizer, name, None) for name in ("sep_token_id", "eos_token_id")}
        return {token for token in found if token is not None}

    def names(self, ids: Int[Tensor, "1 n"]) -> list[str]:
        """A label for each token of a text."""
        return readable(self.tokenizer, ids[0].tolist())

    def name(self, token: int) -> str:
        """A label for a token that might come next, with a mark for a space before it."""
        text = self.tokenizer.decode([token])
        if not text.strip("\ufffd"):
            return f"part {token} of a character"
        (label,) = readable(self.tokenizer, [token])
        return f"␣{label}" if text.startswith(" ") and text.strip() else label


def vector(states: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
    """An encoder's vector of a sentence."""
    return states.mean(0)


def _built() -> Reader:
    model = HandBuilt().eval()
    return Reader(
        "The model built by hand", model, byte_text.ByteTokenizer(), _bytes, lambda ids: model(ids)[0], predicts=True
    )


def _both_ways() -> Reader:
    model = HandBuiltEncoder(is_causal=False).eval()
    return _comparing(
        "The model built by hand, reading both ways",
        model,
        byte_text.ByteTokenizer(),
        _bytes,
        lambda ids: model(ids)[0],
    )


def _smollm2() -> Reader:
    model, path = shipped.language_model(), shipped.LANGUAGE_MODEL.path()
    shipped.language_model.cache_clear()  # so that its memory is free when another model is chosen
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    return Reader(
        "SmolLM2-135M", model, tokenizer, _encoder(tokenizer),
        lambda ids: model(input_ids=ids, use_cache=False).logits[0], predicts=True,
    )  # fmt: skip


def _minilm() -> Reader:
    model, tokenizer = shipped.sentence_encoder()
    shipped.sentence_encoder.cache_clear()
    return _comparing(
        "MiniLM-L6", model, tokenizer, _encoder(tokenizer), lambda ids: model(input_ids=ids).last_hidden_state[0]
    )


def _comparing(label: str, model: nn.Module, tokenizer: Any, encode: Any, rows: Any) -> Reader:
    """An encoder, which has read `SENTENCES`."""
    others = torch.stack([vector(rows(encode(sentence))) for sentence in SENTENCES])
    return Reader(label, model, tokenizer, encode, rows, predicts=False, others=others)


def _bytes(text: str) -> Int[Tensor, "1 n"]:
    return byte_text.encoded(text)[None]


def _encoder(tokenizer: Any) -> Callable[[str], Int[Tensor, "1 n"]]:
    def encode(text: str) -> Int[Tensor, "1 n"]:
        ids: Tensor = tokenizer(text, return_tensors="pt", truncation=False, verbose=False)["input_ids"]
        return ids

    return encode


READERS: Mapping[str, Callable[[], Reader]] = {
    "built": _built, "both-ways": _both_ways, "smollm2": _smollm2, "minilm": _minilm
}  # fmt: skip

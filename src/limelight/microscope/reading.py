"""A model is watched while it reads a text or a picture: the scope, the table of measures, and readable tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limelight.errors import InputError
from limelight.microscope.attach import attach
from limelight.microscope.head_measures import MEASURES, Measure
from limelight.microscope.head_table import Table
from limelight.microscope.load import Loaded
from limelight.microscope.picture import Picture, patch_labels, picture
from limelight.microscope.scope import Scope
from limelight.microscope.tokens import readable
from limelight.microscope.watched_attention import WatchedAttention

_ANSWER = 64  # tokens that an encoder-decoder writes at most


@dataclass(frozen=True)
class Reading:
    """What was measured while a model read a text or a picture.

    `texts` are the labels of the tokens of the text, and of the answer that an encoder-decoder wrote; `ids` are these
    tokens. Of a picture the tokens are its patches, which have no ids. `measures` are the columns of the table.
    """

    model: str
    kind: str
    scope: Scope
    table: Table
    texts: tuple[list[str], ...]
    ids: tuple[list[int], ...]
    measures: tuple[Measure, ...] = MEASURES
    picture: Picture | None = None

    @property
    def layers(self) -> list[WatchedAttention]:
        """All heads of each layer."""
        return list(self.scope)

    def sides(self, P: WatchedAttention) -> tuple[int, int]:
        """(the text of the queries, the text of the keys), as indices into `texts`."""
        if P.is_cross:
            return len(self.texts) - 1, 0
        if self.picture is not None:
            return 0, 0
        own = None if P.ids is None else P.ids.tolist()
        text = next((i for i, ids in enumerate(self.ids) if ids == own), None)
        if text is None:
            raise InputError(f"{P!r} reads {P.shape[-1]} tokens that are not those of the text; watch it in Python")
        return text, text


@torch.no_grad()
def read(
    loaded: Loaded, text: str, tokens: int | None = None, more: Sequence[Callable[[Scope, Any], Measure]] = ()
) -> Reading:
    """Let the model read the text, or its first `tokens` tokens. An encoder-decoder also writes an answer to it.

    `more` make further measures from the scope and from what the model was called with, as `ablation_effect` does.

    Raises `InputError` for a text without tokens, or with more than the model takes, and for a model of pictures.
    """
    if loaded.reads != "text":
        raise InputError(f"{loaded.name} looks at pictures; give one with --image in place of a text")
    if not text.strip():
        raise InputError("the text is empty; give one with some words")
    ids = loaded.tokenizer(text, return_tensors="pt", truncation=False, verbose=False)["input_ids"]
    if tokens is not None:
        if tokens < 1:
            raise InputError(f"--tokens expects a whole number ≥ 1, got {tokens}")
        ids = ids[:, :tokens]
    _require_fits(ids, loaded)
    model, config = loaded.model, loaded.model.config
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    read_ids = [ids[0].tolist()]
    if config.is_encoder_decoder:
        answer = model.generate(**given, max_new_tokens=_ANSWER, do_sample=False)
        given["decoder_input_ids"] = answer
        read_ids.append(answer[0].tolist())
    ends = {loaded.tokenizer.sep_token_id, loaded.tokenizer.eos_token_id} - {None}
    with attach(model, separators=ends) as scope:
        given["use_cache"] = False
        model(**given)
    measures = (*MEASURES, *(make(scope, given) for make in more))
    texts = tuple(readable(loaded.tokenizer, own) for own in read_ids)
    return Reading(loaded.name, type(model).__name__, scope, scope.table(measures), texts, tuple(read_ids), measures)


@torch.no_grad()
def read_picture(loaded: Loaded, path: Path, more: Sequence[Callable[[Scope, Any], Measure]] = ()) -> Reading:
    """Let a model of images read the picture in a file.

    Raises `InputError` for a model of text, for what is no picture, and for a model that does not attend to all patches
    of the whole picture, as one with windows.
    """
    if loaded.reads != "pictures":
        raise InputError(f"{loaded.name} reads text; give it with --text or --file in place of a picture")
    seen = picture(path, loaded.tokenizer, loaded.model.config, loaded.name)
    given = {"pixel_values": seen.values}
    with attach(loaded.model) as scope:
        loaded.model(**given)
    tokens = scope[0].shape[-1] if scope.texts == 1 else 0
    labels = patch_labels(loaded.model, tokens, seen.rows, seen.columns)
    if labels is None or any(P.shape[1:] != (tokens, tokens) for P in scope):
        raise InputError(
            f"{loaded.name} does not attend from each patch of a picture to all of them, so that its heads cannot be "
            "drawn over it; watch it in Python, with limelight.microscope.attach"
        )
    measures = (*MEASURES, *(make(scope, given) for make in more))
    kind = type(loaded.model).__name__
    return Reading(loaded.name, kind, scope, scope.table(measures), (labels,), ([],), measures, seen)


def _require_fits(ids: Tensor, loaded: Loaded) -> None:
    count = ids.shape[-1]
    if not count:
        raise InputError("the text has no tokens; give one with some words")
    if loaded.longest is not None and count > loaded.longest:
        raise InputError(
            f"the text has {count} tokens, and {loaded.name} takes {loaded.longest}; "
            f"add --tokens {loaded.longest} to read its beginning"
        )

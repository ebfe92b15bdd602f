"""A model reads texts with and without some of its heads changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.microscope.ablation_effect import moved
from limelight.microscope.interventions import Intervention
from limelight.microscope.scope import Scope
from limelight.similarity import upcast
from limelight.what_if.effect import Effect, TextEffect

Text = Mapping[str, Any] | Tensor
Loss = Callable[[Any, Any], Tensor]  # (the model's output, its inputs) ↦ the loss, one number


def effect_of(scope: Scope, texts: Iterable[Text], *changes: Intervention, loss: Loss | None = None) -> Effect:
    """The effect of these changes of its heads on a model's output for each text.

    The model that `scope` watched reads each text twice, as it is and changed as `scope.intervene` does it. A text is
    what the model is called with: a dict of keyword arguments with one text each, or a tensor, such as ids (1, n).

    `loss(output, inputs)` returns the loss of one text, a tensor of one number. If it is None, models of transformers
    that generate text have the mean cross-entropy of each next token (`next_token_loss`), and others have no loss.

    The result has the loss, and for models with logits the KL divergence of their predictions and the share of tokens
    whose top prediction changes; in every case how far the output moved. Attention masks of padding are honored.

    Raises `InputError` for fewer than two texts, which give no interval; for a text of one token where the loss is of
    the next one; for an output without a tensor; for a model in training mode with dropout; and as `intervene` does.

    >>> import torch
    >>> from limelight import microscope
    >>> from limelight.what_if import effect_of
    >>> layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> texts = [torch.randn(1, 5, 8) for _ in range(3)]
    >>> with microscope.attach(layer) as scope:
    ...     out = layer(texts[0])
    >>> effect_of(scope, texts, microscope.Ablate([(0, 1)])).measures
    ('moved',)
    """
    given = [text if isinstance(text, Mapping) else (text,) for text in texts]
    if len(given) < 2:
        raise InputError(
            f"effect_of got {len(given)} texts, which give no interval; give at least two, or cut a long one into parts"
        )
    model = scope.model
    _require_no_dropout(model)
    of = loss if loss is not None else next_token_loss if _generates(model) else None
    with torch.no_grad():
        before = [_run(model, text) for text in given]
        with scope.intervene(*changes):
            after = [_run(model, text) for text in given]
    found = [_compared(a, b, text, of) for a, b, text in zip(before, after, given, strict=True)]
    return Effect(", ".join(map(repr, changes)), tuple(found))


def next_token_loss(output: Any, inputs: Any) -> Float[Tensor, ""]:
    """mean_t −log p(token_{t+1} | tokens up to t) over the tokens of a text that are no padding, in nats.

    For an encoder-decoder these are the tokens of `decoder_input_ids`.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> from limelight.what_if import next_token_loss
    >>> uniform = SimpleNamespace(logits=torch.zeros(1, 3, 8))
    >>> round(next_token_loss(uniform, {"input_ids": torch.tensor([[5, 2, 7]])}).exp().item(), 3)
    8.0
    """
    ids, real = _tokens(inputs)
    if int(real.sum()) < 2:
        raise InputError("a text of one token has no next token, so it has no loss; give longer texts")
    both = real[:, 1:] & real[:, :-1]
    return F.cross_entropy(output.logits[:, :-1][both].float(), ids[:, 1:][both])


def _tokens(inputs: Any) -> tuple[Int[Tensor, "1 n"], Tensor]:
    """The tokens that are predicted, and which of them are no padding."""
    named: Mapping[str, Any] = inputs if isinstance(inputs, Mapping) else {"input_ids": inputs[0]}
    name, mask = ("decoder_input_ids", "decoder_attention_mask") if "decoder_input_ids" in named else (
        "input_ids", "attention_mask"
    )  # fmt: skip
    ids = named.get(name)
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        raise InputError(
            f"the loss of the next token needs {name} (1, n) among the inputs; give them, or a loss(output, inputs)"
        )
    real = named.get(mask)
    return ids, torch.ones_like(ids, dtype=torch.bool) if real is None else real > 0


def _generates(model: nn.Module) -> bool:
    return bool(getattr(model, "can_generate", lambda: False)())


def _require_no_dropout(model: nn.Module) -> None:
    if model.training and any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
        raise InputError("the model is in training mode and drops numbers at random; call model.eval() first")


def _run(model: nn.Module, text: Any) -> Any:
    return model(**text) if isinstance(text, Mapping) else model(*text)


def _compared(before: Any, after: Any, text: Any, loss: Loss | None) -> TextEffect:
    a, b = (_rows(out, text) for out in (before, after))
    first, then = (math.nan if loss is None else _number(loss(out, text)) for out in (before, after))
    apart = float(moved(a, b))
    if getattr(before, "logits", None) is None:
        return TextEffect(len(a), first, then, moved=apart)
    return TextEffect(
        len(a),
        first,
        then,
        divergence=float(divergence(a, b)),
        top_changed=float((a.argmax(-1) != b.argmax(-1)).float().mean()),
        moved=apart,
    )


def divergence(a: Float[Tensor, "n vocabulary"], b: Float[Tensor, "n vocabulary"]) -> Float[Tensor, ""]:
    """mean_i KL(p_i ‖ q_i) of the softmax of two rows of logits; a token of probability 0 in p adds nothing."""
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    return (p.exp() * (p - q)).masked_fill(p == -math.inf, 0).sum(-1).mean()


def _rows(out: Any, text: Any) -> Float[Tensor, "tokens width"]:
    """The model's output at each token that is no padding: its logits, its last hidden state, or its only tensor."""
    found = next((x for name in ("logits", "last_hidden_state") if (x := getattr(out, name, None)) is not None), out)
    found = found[0] if isinstance(found, tuple) and found else found
    if not isinstance(found, Tensor):
        raise InputError(
            f"effect_of compares tensors, and the model returns {type(found).__name__}; wrap it in one that returns one"
        )
    rows, mask = found.detach(), text.get("attention_mask") if isinstance(text, Mapping) else None
    if isinstance(mask, Tensor) and rows.shape[:-1] == mask.shape:
        rows = rows[mask > 0]
    return upcast(rows.reshape(-1, rows.shape[-1]))


def _number(loss: Any) -> float:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else loss
        raise InputError(f"loss(output, inputs) must return a tensor of one number, got {shape!r}")
    return float(loss.detach())

"""How a sequence is written one token at a time: greedily, or by beam search, for any model of the next token.

A model is given as a step function: prefixes (n, t) ↦ scores (n, tokens) of the token that comes next, whose softmax
are its probabilities. Logits will do, and so will log-probabilities, in which −∞ forbids a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.models.positions import require_size
from limelight.similarity import upcast

Step = Callable[[Int[Tensor, "n t"]], Float[Tensor, "n tokens"]]


@dataclass(frozen=True)
class Beams:
    """What beam search found for each of n sequences: the most probable first, and the logarithm of its probability."""

    tokens: Int[Tensor, "n beams t"]
    scores: Float[Tensor, "n beams"]


@torch.no_grad()
def greedy(step: Step, prefixes: Int[Tensor, "n t0"], end: int, most: int) -> Int[Tensor, "n t"]:
    """y_t = argmax p(y | y_<t): the most probable next token, again and again, until `end` is written.

    The result holds what was written after the prefixes, at most `most` tokens; a sequence that ended earlier than the
    longest is filled up with `end`. Each choice is the best one by itself, and the sequence need not be: a token of
    little advantage may lead to where nothing is probable.

    Raises `InputError` for prefixes without a token, `most` below 1, and scores that are no distribution.

    >>> import torch
    >>> from limelight.models.decoding import greedy
    >>> chain = torch.tensor([[0.0, 0.9, 0.1], [0.0, 0.2, 0.8], [0.0, 0.0, 1.0]])  # p(next token | last token)
    >>> greedy(lambda prefixes: chain[prefixes[:, -1]].log(), torch.tensor([[0]]), end=2, most=9)
    tensor([[1, 2]])
    """
    _require_prefixes(prefixes, most)
    written, ended = prefixes, torch.zeros(len(prefixes), dtype=torch.bool, device=prefixes.device)
    for _ in range(most):
        chosen = _log_probabilities(step(written), len(written), end).argmax(-1)
        chosen = torch.where(ended, end, chosen)
        written, ended = torch.cat([written, chosen[:, None]], 1), ended | (chosen == end)
        if ended.all():
            break
    return written[:, prefixes.shape[1] :]


# Beam search keeps the `beams` most probable prefixes of each sequence, not one. In each round every prefix is extended
# by every token, and of these beams × tokens candidates the most probable are kept: a prefix that is second now may
# win later. A prefix that has ended is a candidate too: it goes on with `end` at no cost, so that it stays as probable
# as it is. At first all beams of a sequence are the same prefix; all but one of them get the probability 0, or else
# the same continuation would be kept many times. Logarithms are added where probabilities would be multiplied, since
# the product of many small numbers would become zero. Reference: Graves 2012 (1211.3711); Sutskever et al. 2014
# (1409.3215).
@torch.no_grad()
def beam_search(step: Step, prefixes: Int[Tensor, "n t0"], end: int, most: int, beams: int) -> Beams:
    """The sequences y of largest log p(y) = Σ_t log p(y_t | y_<t) that a search with `beams` prefixes finds.

    `step` gets n · beams prefixes at once: first all of the first sequence, then all of the second. A sequence stops
    at `end`, and is filled up with it; the search stops when all have, or after `most` tokens. Scores are not divided
    by lengths. A beam of 1 finds what `greedy` finds, and one as wide as the number of all sequences finds the best.
    Where fewer than `beams` sequences are possible, the scores of the others are −∞.

    Raises `InputError` for prefixes without a token, `most` or `beams` below 1, and scores that are no distribution.

    >>> import torch
    >>> from limelight.models.decoding import beam_search
    >>> chain = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.0, 0.3, 0.3, 0.4], [0.0, 0.0, 0.1, 0.9], [0.0, 0.0, 0.0, 1.0]])
    >>> found = beam_search(lambda prefixes: chain[prefixes[:, -1]].log(), torch.tensor([[0]]), 3, most=9, beams=2)
    >>> found.tokens[0].tolist(), found.scores[0].exp()  # the greedy choice begins with 1
    ([[2, 3], [1, 3]], tensor([0.3600, 0.2400]))
    """
    _require_prefixes(prefixes, most)
    require_size("beams", beams)
    n, begins = prefixes.shape
    written = prefixes.repeat_interleave(beams, 0)
    scores = torch.full((n, beams), -torch.inf, device=prefixes.device)
    scores[:, 0] = 0
    for _ in range(most):
        added = _log_probabilities(step(written), len(written), end)
        scores, written = _best(
            scores.to(added.dtype), added.view(n, beams, -1), written.view(n, beams, -1), begins, end
        )
        if (written[:, -1] == end).all():
            break
    return Beams(written.view(n, beams, -1)[..., begins:], scores)


def _best(
    scores: Float[Tensor, "n beams"],
    added: Float[Tensor, "n beams tokens"],
    written: Int[Tensor, "n beams t"],
    begins: int,
    end: int,
) -> tuple[Float[Tensor, "n beams"], Int[Tensor, "nb t_plus_1"]]:
    """The most probable extensions of all prefixes of a sequence by one token; of equal ones the first."""
    beams, tokens = added.shape[1:]
    if written.shape[-1] > begins:
        stays = torch.full((tokens,), -torch.inf, dtype=added.dtype, device=added.device)
        stays[end] = 0
        added = torch.where((written[..., -1] == end)[..., None], stays, added)
    candidates = (scores[..., None] + added).flatten(1)
    best, which = candidates.sort(dim=-1, descending=True, stable=True)
    best, which = best[:, :beams], which[:, :beams]
    kept = written.gather(1, (which // tokens)[..., None].expand(-1, -1, written.shape[-1]))
    return best, torch.cat([kept, (which % tokens)[..., None]], -1).flatten(0, 1)


def _log_probabilities(scores: Tensor, n: int, end: int) -> Float[Tensor, "n tokens"]:
    """log softmax of the scores. Raises `InputError` unless they are (n, tokens) and each row is a distribution."""
    if scores.ndim != 2 or len(scores) != n:
        raise InputError(
            f"a step must return scores ({n}, tokens), one row for each prefix; it returned {tuple(scores.shape)}"
        )
    if not 0 <= end < scores.shape[1]:
        raise InputError(f"end expects one of the {scores.shape[1]} tokens, 0 to {scores.shape[1] - 1}; got {end}")
    found = upcast(scores).log_softmax(-1)
    if found.isnan().any():
        raise InputError("a step must return scores without NaN and +∞, and in each row at least one that is not −∞")
    return found


def _require_prefixes(prefixes: Tensor, most: int) -> None:
    require_size("most", most)
    if prefixes.ndim != 2 or 0 in prefixes.shape:
        raise InputError(f"prefixes must have the shape (n, t) with n ≥ 1 and t ≥ 1, got {tuple(prefixes.shape)}")
    if prefixes.dtype not in (torch.int64, torch.int32):
        raise InputError(f"prefixes must be whole numbers (int64 or int32), got {prefixes.dtype}")

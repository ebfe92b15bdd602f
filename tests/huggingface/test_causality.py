"""A causal model does not see the future, in one pass or with a cache, padded or not."""

import pytest
import torch
from transformers import StaticCache

from limelight import Euclidean
from limelight.huggingface import register, transplant
from tests.huggingface.tiny import CACHE, DECODERS, model, tokens

register("limelight-future", Euclidean(2.0))
CUT = 5
HOW = ["registered", "transplanted on eager", "transplanted on sdpa"]


@pytest.fixture(params=HOW)
def made(request, name):
    if request.param == "registered":
        yield model(name, "limelight-future")
    else:
        lent = model(name, request.param.split()[-1])
        with transplant(lent, Euclidean(2.0)):
            yield lent


def changed(batch):
    """The same tokens up to CUT, others after it."""
    ids = batch["input_ids"].clone()
    ids[:, CUT:] = 3 + (ids[:, CUT:] + 20) % 61
    return batch | {"input_ids": ids * batch["attention_mask"]}


@pytest.mark.parametrize("padded", ["full", "left", "right"])
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_later_tokens_do_not_change_earlier_logits(made, padded):
    before, after = (made(**batch).logits for batch in (tokens(padded), changed(tokens(padded))))
    real = tokens(padded)["attention_mask"][:, :CUT].bool()
    torch.testing.assert_close(after[:, :CUT][real], before[:, :CUT][real], atol=1e-6, rtol=0)
    assert (after[0, CUT:] - before[0, CUT:]).abs().max() > 0.1


@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_a_cache_filled_in_pieces_gives_the_logits_of_one_go(made, padded):
    """Pieces of 3, 1 and 5 tokens: as many queries as keys, one query, and fewer queries than keys."""
    batch = tokens(padded)
    whole = made(**batch, position_ids=positions(batch)).logits
    cache, pieces = None, []
    for start, stop in ((0, 3), (3, 4), (4, 9)):
        out = made(
            input_ids=batch["input_ids"][:, start:stop],
            attention_mask=batch["attention_mask"][:, :stop],
            position_ids=positions(batch)[:, start:stop],
            use_cache=True,
            **{CACHE: cache},
        )
        cache = out[CACHE]
        pieces.append(out.logits)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(torch.cat(pieces, 1)[real], whole[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_a_cache_longer_than_what_was_seen(made):
    """With more keys than queries at the first call, sdpa gets no mask, and counts positions from the start."""
    ids = tokens()["input_ids"]
    whole = made(input_ids=ids).logits
    cache, pieces = StaticCache(config=made.config, max_cache_len=16), []
    for start, stop in ((0, 6), (6, 7), (7, 9)):
        out = made(input_ids=ids[:, start:stop], use_cache=True, **{CACHE: cache})
        pieces.append(out.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)


def positions(batch):
    return (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)

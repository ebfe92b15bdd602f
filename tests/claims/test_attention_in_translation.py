"""Attention in translation: arms differ by their similarity alone, and what is measured is what is meant."""

import math

import pytest
import torch

from limelight import Dot, Euclidean, Metric
from limelight.claims import attention_in_translation as claim
from limelight.data.parallel_text import Vocabulary
from limelight.data.special_tokens import BEGIN, END, PAD
from limelight.experiment import catalog
from limelight.models.transformer import Skip
from limelight.nn import MultiheadAttention

PAIRS = [("the dog", "lo kan"), ("a dog sees", "un kan via"), ("the dog sees a bat", "lo kan uno bato via")]
VOCABULARY = Vocabulary.of(sentence for pair in PAIRS for sentence in pair)
TEXT = claim.text_of(VOCABULARY, PAIRS)


def model(arm):
    torch.manual_seed(0)
    return claim.model_of(arm, VOCABULARY.tokens)


def similarities(arm):
    return [layer.similarity for layer in model(arm).modules() if isinstance(layer, MultiheadAttention)]


def test_each_attention_layer_has_a_similarity_of_its_own():
    assert all(isinstance(similarity, Dot) for similarity in similarities(claim.DOT))
    assert all(isinstance(each.similarity, Euclidean) for each in similarities(claim.EUCLIDEAN))
    metrics = similarities(claim.METRIC)
    assert all(isinstance(each.similarity, Metric) for each in metrics)
    assert len({id(each.similarity.phi) for each in metrics}) == len(metrics) == 3
    assert isinstance(model(claim.NO_CROSS).decoder[0].cross_attention, Skip)


def test_all_arms_have_the_same_projections_and_distances_the_scale_of_dots():
    sizes = {arm: sum(p.numel() for p in model(arm).parameters()) for arm in (claim.METRIC, claim.EUCLIDEAN, claim.DOT)}
    d = claim.WIDTH // claim.HEADS
    assert sizes[claim.EUCLIDEAN] == sizes[claim.DOT]
    assert sizes[claim.METRIC] == sizes[claim.DOT] + 3 * (2 * d * d + d)
    q, k = torch.randn(2, 5, d)
    for arm in (claim.EUCLIDEAN, claim.DOT):
        similarity = similarities(arm)[0]
        scores = similarity.dense(q, k) * similarity.default_scale(d)
        right = q @ k.T if arm == claim.DOT else -0.5 * torch.cdist(q, k).square()
        torch.testing.assert_close(scores, right / math.sqrt(d), atol=1e-5, rtol=1e-4)


def test_the_loss_is_that_of_every_word_and_end_and_of_no_padding():
    network = model(claim.DOT)
    found = claim.next_word_loss(network, TEXT)
    logs = []
    for i in range(3):
        alone = claim.text_of(VOCABULARY, PAIRS[i : i + 1])
        p = network(alone.source, alone.target[:, :-1]).log_softmax(-1)[0]
        logs += p[torch.arange(len(p)), alone.target[0, 1:]].tolist()
    assert len(logs) == 3 + 4 + 6
    assert float(found.detach()) == pytest.approx(-sum(logs) / len(logs), rel=1e-5)
    assert claim.perplexity(network, TEXT) == pytest.approx(math.exp(float(found.detach())), rel=1e-5)


def test_a_part_of_a_text_has_no_column_of_padding_alone():
    part = TEXT.of(slice(0, 1))
    assert (part.source == PAD).sum() == (part.target == PAD).sum() == 0
    assert TEXT.source[0, 0] != BEGIN
    assert TEXT.target[0, 0] == BEGIN
    assert VOCABULARY.decoded(part.target) == ["lo kan"]


class Oracle(torch.nn.Module):
    """A model that says what the text says, but for some words."""

    def __init__(self, target, ends=True):
        super().__init__()
        self.target = target if ends else torch.where(target == END, VOCABULARY.tokens - 1, target)

    def forward(self, source, target):
        return torch.nn.functional.one_hot(
            self.target[:, 1 : target.shape[1] + 1].clamp(min=0), VOCABULARY.tokens
        ).float()

    def next_token(self, source):
        return lambda prefixes: self(None, prefixes)[:, -1]


def test_exact_means_every_word_and_the_end():
    assert claim.exact(Oracle(TEXT.target), TEXT) == 1.0
    assert claim.exact(Oracle(TEXT.target, ends=False), TEXT) == 0.0
    other = TEXT.target.clone()
    other[1, 2] = other[0, 1]
    assert claim.exact(Oracle(other), TEXT) == pytest.approx(2 / 3)
    early = TEXT.target.clone()
    early[2, 3] = END
    assert claim.exact(Oracle(early), TEXT) == pytest.approx(2 / 3)
    real = TEXT.target[:, 1:] != PAD
    right = claim.next_words_right(Oracle(other), TEXT)
    assert right[real].float().mean() == pytest.approx(12 / 13)
    assert not right[1, 1]


def test_words_stand_where_their_tokens_do():
    words = claim.words_in(TEXT)
    assert words[0] == ["lo", "kan", "", "", "", ""]
    assert words[2] == ["lo", "kan", "uno", "bato", "via", ""]
    assert claim.longest(PAIRS) == 2


def test_an_epoch_shows_every_pair_once_in_another_order(monkeypatch):
    monkeypatch.setattr(claim, "BATCH", 4)
    monkeypatch.setattr(claim, "EPOCHS", 3)
    seen, looked = [], []
    monkeypatch.setattr(claim, "next_word_loss", lambda model, part: seen.append(part.source[:, 0].tolist()))
    text = claim.Text(VOCABULARY, torch.arange(1, 11)[:, None], torch.arange(1, 11)[:, None])
    loss = claim.batches(None, text, 7, looked.append)
    for _ in range(6):
        loss()
    assert looked == [0, 1, 2]
    epochs = [seen[0] + seen[1], seen[2] + seen[3], seen[4] + seen[5]]
    assert all(len({*epoch}) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_test_sentence_is_in_training():
    train, test = catalog.claim("attention_in_translation").pairs(3)
    assert (len(train), len(test)) == (claim.TRAIN, claim.TEST)
    assert not {english for english, _ in train} & {english for english, _ in test}


def test_a_corpus_without_ambiguous_words_counts_all(monkeypatch):
    class Captions(claim.AttentionInTranslation):
        ambiguous = frozenset()

        def pairs(self, seed):
            return PAIRS * 30, PAIRS

    monkeypatch.setattr(claim, "EPOCHS", 1)
    found = Captions().measure_at(claim.METRIC, 0.01, 0)
    assert found.values["ambiguous"] <= found.values["words"]  # the ends are no words
    assert found.arrays["perplexity by epoch"].shape == (1,)
    assert found.arrays["look"].shape == (6, 6)
    assert found.arrays["look"].sum(1) == pytest.approx([1] * 6, abs=1e-5)

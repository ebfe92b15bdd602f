"""Greedy and beam search, against chains whose most probable sequences are known by hand or by trying all."""

from itertools import product

import pytest
import torch

from limelight import InputError
from limelight.models.decoding import beam_search, greedy

START, A, B, END = range(4)
# Greedy begins with A (.6), after which the best end has .4: .24 in all. Through B it is .4 × .9 = .36.
TRAP = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.0, 0.25, 0.35, 0.4], [0.0, 0.0, 0.1, 0.9], [0.0, 0.0, 0.0, 1.0]])


def chain(table):
    return lambda prefixes: table[prefixes[:, -1]].log()


def starts(n=1):
    return torch.full((n, 1), START)


def random_chain(tokens, generator):
    """A table in which the next token depends on the last two, and the end on the length too."""
    table = torch.rand(tokens, tokens, tokens, generator=generator, dtype=torch.float64) ** 3

    def step(prefixes):
        last = prefixes[:, -1]
        before = prefixes[:, -2] if prefixes.shape[1] > 1 else torch.zeros_like(last)
        return (table[before, last] * (1 + torch.arange(tokens) * prefixes.shape[1] / 5)).log()

    return step


def log_probability(step, sequence, end):
    """Of tokens after the start, up to and with the first end."""
    total, written = 0.0, starts()
    for token in sequence:
        total += float(step(written)[0].log_softmax(-1)[token])
        if token == end:
            break
        written = torch.cat([written, torch.tensor([[token]])], 1)
    return total


def test_greedy_walks_into_the_trap_and_beam_search_does_not():
    assert greedy(chain(TRAP), starts(), END, most=9).tolist() == [[A, END]]
    found = beam_search(chain(TRAP), starts(), END, most=9, beams=2)
    assert found.tokens.tolist() == [[[B, END], [A, END]]]
    torch.testing.assert_close(found.scores.exp(), torch.tensor([[0.36, 0.24]]))


def test_three_beams_are_the_three_most_probable_sequences():
    found = beam_search(chain(TRAP), starts(), END, most=9, beams=3)
    assert found.tokens[0].tolist() == [[B, END, END], [A, END, END], [A, B, END]]
    torch.testing.assert_close(found.scores.exp(), torch.tensor([[0.36, 0.24, 0.6 * 0.35 * 0.9]]))


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_of_one_is_greedy(seed):
    step = random_chain(5, torch.Generator().manual_seed(seed))
    prefixes = torch.randint(0, 4, (6, 2), generator=torch.Generator().manual_seed(seed))
    found = beam_search(step, prefixes, end=4, most=7, beams=1)
    assert torch.equal(found.tokens[:, 0], greedy(step, prefixes, end=4, most=7))


def test_a_beam_of_one_is_greedy_where_probabilities_are_equal():
    step = chain(torch.full((5, 5), 0.2))
    assert greedy(step, starts(2), 4, most=3).tolist() == [[0, 0, 0]] * 2
    assert beam_search(step, starts(2), 4, most=3, beams=1).tokens.tolist() == [[[0, 0, 0]]] * 2


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best_of_all_sequences(seed):
    step, most, end = random_chain(3, torch.Generator().manual_seed(seed)), 4, 2
    everything = {s[: s.index(end) + 1] if end in s else s for s in product(range(3), repeat=most)}
    ranked = sorted(everything, key=lambda s: -log_probability(step, s, end))
    found = beam_search(step, starts(), end, most, beams=len(everything))
    for beam, expected in zip(found.tokens[0].tolist(), ranked, strict=True):
        assert beam == [*expected, *[end] * (len(beam) - len(expected))]
    expected = torch.tensor([log_probability(step, s, end) for s in ranked], dtype=torch.float64)
    torch.testing.assert_close(found.scores[0], expected)
    assert float(found.scores.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_scores_are_those_of_the_tokens_and_fall_from_beam_to_beam(beams):
    step = random_chain(5, torch.Generator().manual_seed(3))
    found = beam_search(step, starts(), 4, most=6, beams=beams)
    for tokens, score in zip(found.tokens[0].tolist(), found.scores[0], strict=True):
        assert float(score) == pytest.approx(log_probability(step, tokens, 4))
    assert (found.scores.diff() <= 0).all()
    assert len({tuple(tokens) for tokens in found.tokens[0].tolist()}) == beams


def test_sequences_of_a_batch_do_not_disturb_each_other():
    step = random_chain(5, torch.Generator().manual_seed(5))
    prefixes = torch.tensor([[0], [1], [3]])
    together = beam_search(step, prefixes, 4, most=5, beams=3)
    for i in range(3):
        alone = beam_search(step, prefixes[i : i + 1], 4, most=5, beams=3)
        torch.testing.assert_close(together.scores[i : i + 1], alone.scores)
        assert torch.equal(together.tokens[i, :, : alone.tokens.shape[-1]], alone.tokens[0])


def test_it_stops_at_the_end_and_after_the_most():
    calls = []

    def step(prefixes):
        calls.append(prefixes.shape)
        return TRAP[prefixes[:, -1]].log()

    greedy(step, starts(3), END, most=50)
    assert calls == [(3, 1), (3, 2)]
    endless = chain(torch.tensor([[0.5, 0.5, 0.0]]).expand(3, 3))
    assert greedy(endless, starts(), 2, most=4).shape == (1, 4)
    assert beam_search(endless, starts(), 2, most=4, beams=2).tokens.shape == (1, 2, 4)


def test_an_end_in_the_prefix_ends_nothing():
    """A decoder may begin with the token that also ends."""
    prefixes = torch.tensor([[END]])
    table = TRAP.clone()
    table[END] = TRAP[START]
    assert beam_search(chain(table), prefixes, END, most=9, beams=2).tokens.tolist() == [[[B, END], [A, END]]]
    assert greedy(chain(table), prefixes, END, most=9).tolist() == [[A, END]]


def test_fewer_sequences_than_beams():
    only = chain(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    found = beam_search(only, torch.tensor([[0]]), 1, most=3, beams=2)
    assert found.scores[0, 0] == 0
    assert found.scores[0, 1] == -torch.inf


def test_low_precision_and_double():
    half = beam_search(lambda p: TRAP[p[:, -1]].log().half(), starts(), END, 9, 2)
    assert half.scores.dtype == torch.float32
    double = beam_search(lambda p: TRAP[p[:, -1]].double().log(), starts(), END, 9, 2)
    torch.testing.assert_close(double.scores.exp(), torch.tensor([[0.36, 0.24]]).double(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("search", [greedy, lambda *given: beam_search(*given, beams=2)])
@pytest.mark.parametrize(
    ("step", "prefixes", "end", "most", "message"),
    [
        (chain(TRAP), starts()[:, :0], END, 3, r"shape \(n, t\)"),
        (chain(TRAP), starts()[:0], END, 3, r"shape \(n, t\)"),
        (chain(TRAP), starts()[0], END, 3, r"shape \(n, t\)"),
        (chain(TRAP), starts().float(), END, 3, "whole numbers"),
        (chain(TRAP), starts(), END, 0, "most expects a whole number ≥ 1"),
        (chain(TRAP), starts(), 4, 3, "end expects one of the 4 tokens"),
        (chain(TRAP), starts(), -1, 3, "end expects one of the 4 tokens"),
        (lambda p: torch.full((len(p), 4), torch.nan), starts(), END, 3, "without NaN"),
        (lambda p: torch.full((len(p), 4), -torch.inf), starts(), END, 3, "at least one that is not"),
        (lambda p: torch.zeros(len(p), p.shape[1], 4), starts(), END, 3, "one row for each prefix"),
        (lambda p: torch.zeros(9, 4), starts(), END, 3, "one row for each prefix"),
    ],
)
def test_bad_input_is_refused(search, step, prefixes, end, most, message):
    with pytest.raises(InputError, match=message):
        search(step, prefixes, end, most)


def test_no_beams_are_refused():
    with pytest.raises(InputError, match="beams expects a whole number ≥ 1, got 0"):
        beam_search(chain(TRAP), starts(), END, 9, beams=0)

"""The page on sharded attention has the numbers of the stored run, and the cost model its known answers."""

import json
from pathlib import Path

import pytest
from benchmarks.cost_model import BACKWARD, FORWARD, Layer, Machine, cost, limit, memory, sent, shortest
from benchmarks.scale_page import page

DOCS = Path(__file__).parents[2] / "docs"
LAYER = Layer(heads=4, key_heads=2, width=8, bytes=2, is_causal=False)
MACHINE = Machine(rate=1e9, fast=1e6, slow=1e5, node=2, memory=1e6)


def test_the_page_comes_from_the_stored_run():
    results = json.loads((DOCS / "scale.json").read_text(encoding="utf-8"))
    assert page(results) == (DOCS / "scale.md").read_text(encoding="utf-8")
    results["rows"][1]["processor"][0] *= 2
    assert page(results) != (DOCS / "scale.md").read_text(encoding="utf-8")


def test_one_rank_sends_nothing_and_never_waits():
    found = cost(1000, 1, LAYER, MACHINE)
    assert found.sent == found.waiting == 0
    assert found.work == pytest.approx((FORWARD + BACKWARD) * 8 * 4 * 1000**2)
    assert found.computing == pytest.approx(found.work / MACHINE.rate)


def test_the_work_of_all_ranks_is_that_of_one_and_a_causal_mask_halves_it():
    one, causal = cost(1000, 1, LAYER, MACHINE), Layer(4, 2, 8, 2, is_causal=True)
    assert 4 * cost(1000, 4, LAYER, MACHINE).work == pytest.approx(one.work)
    assert cost(1000, 1, causal, MACHINE).work == pytest.approx(one.work / 2)


def test_keys_and_values_of_the_key_heads_go_round_once():
    forward, backward = sent(1000, 4, LAYER)
    assert forward == 3 * 250 * 2 * 2 * 8 * 2
    assert backward == forward + 2 * forward  # keys and values again, and their gradients of twice as many bytes


def test_from_the_shortest_length_on_the_forward_pass_does_not_wait():
    n = shortest(LAYER, MACHINE, 2)
    for factor, waits in ((0.9, True), (1.1, False)):
        tokens = 2 * n * factor
        there = sent(round(tokens), 2, LAYER)[0] / MACHINE.fast
        block = FORWARD * 8 * 4 * (tokens / 2) ** 2 / MACHINE.rate
        assert (there > block) == waits


def test_a_limit_is_named():
    assert limit(cost(10**5, 1, LAYER, MACHINE), MACHINE) == "memory"
    assert limit(cost(10**3, 1, LAYER, MACHINE), MACHINE) == "arithmetic"
    assert limit(cost(100, 4, LAYER, MACHINE), MACHINE) == "link"
    assert memory(1000, 1, LAYER) < 2 * memory(1000, 2, LAYER)  # two other ranks' keys visit

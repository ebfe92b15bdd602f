"""What is sent, held and computed grows as it should: keys and values once round, nothing n × n, equal work."""

import pytest

from tests.distributed import costs
from tests.distributed.processes import on_ranks

pytestmark = pytest.mark.slow
RANKS = 4


@pytest.fixture(scope="module")
def found():
    return on_ranks(RANKS, costs.both)


def test_keys_and_values_travel_once_round_in_each_pass(found):
    once = RANKS - 1
    for own in found:
        forward, backward, *_ = own["causal"]
        assert once <= forward <= 1.05 * once
        assert 2 * once <= backward <= 1.05 * 2 * once  # keys and values, and their gradients


def test_column_sums_cost_one_more_round_of_the_keys(found):
    once = RANKS - 1
    for own in found:
        forward, backward, *_ = own["alpha"]
        assert forward <= 1.05 * 1.5 * once
        assert backward <= 1.05 * 3 * once


def test_no_tensor_grows_with_the_other_ranks_keys(found):
    for own in found:
        for kind in ("causal", "alpha"):
            assert own[kind][2] <= 2.5  # times the entries of a rank's keys; a block of scores has 4 times as many


def test_a_causal_mask_gives_every_rank_equal_work(found):
    seen = [own["causal"][3] for own in found]
    assert len({sum(pairs) for pairs in seen}) == 1
    assert len({pairs[step] for pairs in seen for step in range(1, RANKS)}) == 1  # no rank waits in any step
    assert sum(map(sum, seen)) == 1024 * 1025 // 2

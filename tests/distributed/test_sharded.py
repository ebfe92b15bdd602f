"""Attention over sharded sequences equals that of one process: outputs, gradients and measures."""

import pytest

from tests.distributed import cases
from tests.distributed.processes import on_ranks

ALL, BOTH = tuple(cases.CASES), ("float64", "float32")
NEAR = {"float64": 1e-12, "float32": 1e-5}
# The number of ranks, the rows from which on a run is cut into pieces that go round the ring one after the other, and
# what is compared.
RANKS = [
    pytest.param((2, 2, cases.FEW, ["float64"]), id="a few, 2 ranks, pieces of 2 rows"),
    *(
        pytest.param((*each, ALL, BOTH), marks=pytest.mark.slow, id="{} ranks, pieces of {} rows".format(*each))
        for each in ((1, 2), (2, 2), (2, 1024), (4, 1024), (4, 2))
    ),
]


@pytest.fixture(scope="module", params=RANKS)
def found(request):
    """What each rank found. One start of the processes serves all tests, since importing torch takes seconds."""
    ranks, shortest, names, dtypes = request.param
    return on_ranks(ranks, cases.everything, shortest=shortest, names=names, dtypes=dtypes)


def test_outputs_and_gradients_equal_those_of_one_process(found):
    for errors, dtype in ((own[dtype], dtype) for own in found for dtype in NEAR if dtype in own):
        assert set(cases.FEW) <= errors.keys()
        assert {name: error for name, error in errors.items() if not error < NEAR[dtype]} == {}


def test_measures_and_their_gradients_equal_those_of_one_process(found):
    for errors in (own["measures"] for own in found):
        assert len(errors) == 13
        assert {name: error for name, error in errors.items() if not error < 1e-12} == {}


def test_points_far_from_the_origin_are_as_accurate_as_in_one_process(found):
    for sharded, alone in (own["far"] for own in found):
        assert sharded < 2 * alone


def test_half_precision_and_autocast(found):
    for half in (own["half"] for own in found):
        for dtype, error in half.values():
            assert dtype == "torch.bfloat16"
            assert error < 0.05


def test_padding_hides_nan(found):
    assert all(own["hidden"] for own in found)


def test_a_second_derivative_is_refused(found):
    for said in (own["again"] for own in found):
        assert set(said) == {"rows", "columns", "gather"}
        assert all("no second derivatives" in sentence for sentence in said.values())

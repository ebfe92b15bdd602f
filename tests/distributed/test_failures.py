"""Each bad input raises one sentence on every rank, and a rank that ends is named; nothing waits forever."""

import pytest

from tests.distributed import failures
from tests.distributed.processes import on_ranks


@pytest.fixture(scope="module")
def refusals():
    return on_ranks(3, failures.refusals)


SENTENCES = {
    "dtype": "all ranks must pass the same dtype, but rank 0 has torch.float32 and rank 2 torch.float64",
    "heads": "all ranks must pass the same batch and width of q, but rank 0 has (2, 8) and rank 2 (3, 8)",
    "width": "batch and width of q, but rank 0 has (2, 8) and rank 2 (2, 6)",
    "width of values": "batch and width of v, but rank 0 has (2, 8) and rank 2 (2, 5)",
    "length of values": "v expects (*batch, 4, e), got (2, 3, 8)",
    "similarity": "the same similarity, but rank 0 has ['Dot'] and rank 2 ['Euclidean']",
    "alpha": "the same normalization, but rank 0 has Softmax(alpha=0.25) and rank 2 Softmax(alpha=0.5)",
    "gradient": "the same v's gradient, but rank 0 has False and rank 2 True",
    "NaN": "k has 1 NaN or infinite of 64 entries",
    "a mask": "the mask Boolean(4, 8) cannot be sharded",
    "a mask on one rank": "the mask Boolean(4, 8) cannot be sharded",
    "a table": "Bias holds numbers for the whole sequence",
    "sparsemax": "Sparsemax() cannot be sharded",
    "tolerance": "Sinkhorn(tolerance=…) cannot be sharded",
    "a subclass": "Halved(alpha=0) cannot be sharded",
    "a band of one's own": "cannot be sharded",
    "dropout": "Dropout in training mode gives a key other features on each rank",
    "an alpha that left its range": "Softmax(alpha=…) must be in [0, 1]",
    "no order": "say which rows the ranks have",
    "an unknown order": "unknown order 'striped'",
    "a leak": "would leak the future",
    "not dealt": "13 queries are dealt to 3 ranks as [5, 4, 4], got [4, 4, 5]",
    "time-out": "timeout expects a positive number of seconds, got 0",
    "a mesh of two dimensions": "a DeviceMesh of one dimension, got 2",
    "a device without a backend": "the process group sends no tensors from meta, only from cpu",
    "no group": "there is no process group, or it has been destroyed",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_bad_input_raises_on_every_rank(refusals, name):
    for found in refusals:
        assert found[name] is not None, "nothing was raised"
        assert SENTENCES[name] in found[name][1]
        assert "\n" not in found[name][1]


def test_a_group_that_was_destroyed_is_refused(refusals):
    for found in refusals:
        assert "group" in found["a destroyed group"][1]


def test_a_mesh_of_one_dimension_is_a_group(refusals):
    assert all(found["a mesh"] is None for found in refusals)


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
def test_a_rank_that_ends_is_named(backward):
    before, _, after = on_ranks(3, failures.one_ends, backward=backward)
    assert after[0] == before[0] == "ClusterError"
    assert "rank 2 of 3 lost rank 1" in after[1]


@pytest.mark.slow
def test_a_silent_rank_is_named():
    for rank, found in enumerate(on_ranks(3, failures.one_is_silent)):
        if rank != 1:
            assert found[0] == "ClusterError"
            assert f"rank {rank} of 3 lost rank 1" in found[1]

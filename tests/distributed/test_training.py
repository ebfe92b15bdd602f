"""Layers in the engines people train with: after ten steps the parameters are those of one process."""

import pytest

from tests.distributed import training
from tests.distributed.processes import on_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    """What each of two ranks found."""
    pytest.importorskip("transformers")
    return on_ranks(2, training.everything)


def test_ten_steps_change_the_parameters(found):
    assert all(own["moved"] > 0.01 for own in found)


@pytest.mark.parametrize("engine", ["data parallel", "checkpointed", "accumulated"])
def test_every_copy_has_the_parameters_of_one_process(found, engine):
    assert all(own[engine] < 1e-10 for own in found)


def test_what_a_similarity_learns_is_sharded_trained_saved_and_loaded(found):
    for trained, restored, in_shards in (own["fully sharded"] for own in found):
        assert in_shards
        assert trained < 1e-10
        assert restored == trained


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_heads_are_shared_among_ranks(found, similarity):
    assert all(own["tensor parallel"][similarity] < 1e-10 for own in found)

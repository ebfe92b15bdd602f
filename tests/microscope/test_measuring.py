"""Measures while a model runs: the numbers of a scope, of which nothing else is kept."""

import gc
import weakref

import pytest
import torch

from limelight import InputError, microscope
from limelight.microscope import MEASURES, Measure, measuring
from tests.microscope.models import Causal, inputs, model


def same(ours, theirs):
    assert [*ours] == [*theirs]
    for name in ours:
        if name in ours.measures:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-6, nan_ok=True), name
        else:
            assert ours[name] == theirs[name]


@torch.no_grad()
@pytest.mark.parametrize("padded", ["full", "left", "right"])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt_oss", "bart", "albert"])
def test_the_numbers_are_those_of_a_scope(name, padded):
    made = model(name)
    given = inputs(made, padded)
    with microscope.attach(made) as scope:
        made(**given)
    with measuring(made) as measured:
        made(**given)
    assert measured.difference == 0
    same(measured.table(), scope.table())


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama", "mistral", "bart"])
def test_the_steps_of_a_generation(name):
    made, given = model(name), {"input_ids": inputs(model(name))["input_ids"]}
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with microscope.attach(made) as scope:
        made.generate(**given, **settings)
    with measuring(made) as measured:
        made.generate(**given, **settings)
    same(measured.table(), scope.table())


@torch.no_grad()
def test_no_queries_and_keys_are_kept():
    seen = []

    def remember(P):
        seen.extend(weakref.ref(x) for x in (P.q, P.k))
        return P.sums.entropy.mean(-1)

    with measuring(Causal(), [Measure("entropy", remember)]) as measured:
        pass
    with pytest.raises(InputError, match="nothing ran yet"):
        measured.table()
    one = Causal()
    with measuring(one, [Measure("entropy", remember)]) as measured:
        one(torch.randn(2, 7, 8))
        gc.collect()
        assert len(seen) == 8
        assert not any(reference() is not None for reference in seen)
    assert len(measured.table()["entropy"]) == 8


@torch.no_grad()
def test_a_pass_that_was_not_finished_is_forgotten():
    one, x = Causal(), torch.randn(1, 5, 8)

    def fails(*_):
        raise ArithmeticError

    with measuring(one) as measured:
        one(x)
        hook = one.layers[1].register_forward_pre_hook(fails)
        with pytest.raises(ArithmeticError):
            one(2 * x)
        hook.remove()
        one(3 * x)
    table = measured.table()
    assert table["step"] == [0] * 4 + [1] * 4
    with microscope.attach(one) as scope:
        one(3 * x)
    assert table["entropy"][4:] == pytest.approx(scope.table()["entropy"])


def test_wrong_measures_are_refused_before_the_model_runs():
    with pytest.raises(InputError, match="twice"), measuring(Causal(), [*MEASURES, MEASURES[0]]):
        raise AssertionError
    with pytest.raises(InputError, match=r"expects a torch\.nn\.Module"), measuring("llama"):
        raise AssertionError

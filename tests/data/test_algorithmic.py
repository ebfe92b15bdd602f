"""Each task's targets are what plain Python computes from the inputs, for every length."""

import pytest
import torch

from limelight import InputError
from limelight.data.algorithmic import ALPHABET, BLANK, PLUS, SYMBOLS, TASKS, TIMES

LENGTHS = [4, 5, 8, 11, 16, 32, 63]


def drawn(task, length, n=60, seed=0):
    return TASKS[task](n, length, torch.Generator().manual_seed(seed))


def number(bits):
    return sum(bit << place for place, bit in enumerate(bits))


def bits(value, count):
    return [value >> place & 1 for place in range(count)]


def expected(task, x):
    """What is asked for, in plain Python: {position: symbol}."""
    n = len(x)
    if task == "reverse":
        return dict(enumerate(reversed(x)))
    if task == "sort":
        return dict(enumerate(sorted(x)))
    if task == "not":
        return {i: {0: 1, 1: 0}[bit] for i, bit in enumerate(x)}
    if task == "remember":
        return {n - n // 4 + i: x[i] for i in range(n // 4)}
    m = (n - 1) // 2
    a, b = number(x[:m]), number(x[m + 1 : 2 * m + 1])
    return dict(enumerate(bits(a + b, m + 1) if task == "add" else bits(a * b, 2 * m)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", LENGTHS)
def test_targets_are_what_the_algorithm_gives(task, length):
    inputs, targets, asked = drawn(task, length)
    assert inputs.shape == targets.shape == asked.shape == (60, length)
    for x, y, where in zip(inputs.tolist(), targets.tolist(), asked.tolist(), strict=True):
        wanted = expected(task, x)
        assert [i for i in range(length) if where[i]] == sorted(wanted)
        assert y == [wanted.get(i, BLANK) for i in range(length)]


@pytest.mark.parametrize(("task", "sign"), [("add", PLUS), ("multiply", TIMES)])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_sum_and_a_product_are_two_numbers_with_a_sign_between(task, sign, length):
    m = (length - 1) // 2
    for x in drawn(task, length).inputs.tolist():
        assert x[m] == sign
        assert set(x[:m] + x[m + 1 : 2 * m + 1]) <= {0, 1}
        assert x[2 * m + 1 :] == [BLANK] * (length - 2 * m - 1)


@pytest.mark.parametrize("length", [4, 7, 16])
def test_what_has_to_be_remembered_is_not_shown_where_it_is_asked_for(length):
    found = drawn("remember", length)
    assert (found.inputs[found.asked] == BLANK).all()
    assert (found.inputs[~found.asked] < SYMBOLS).all()


@pytest.mark.parametrize("task", TASKS)
def test_every_symbol_occurs_and_none_is_outside_of_the_alphabet(task):
    inputs, targets, asked = drawn(task, 12, n=400)
    symbols = SYMBOLS if task in ("reverse", "sort", "remember") else 2
    assert set(targets[asked].tolist()) == set(range(symbols))
    assert set(inputs[inputs < SYMBOLS].tolist()) == set(range(symbols))
    assert 0 <= min(inputs.min(), targets.min()) <= max(inputs.max(), targets.max()) < ALPHABET


@pytest.mark.parametrize("task", TASKS)
def test_the_generator_decides_what_is_drawn(task):
    for first, second in zip(drawn(task, 9, seed=3), drawn(task, 9, seed=3), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(drawn(task, 9, seed=3).inputs, drawn(task, 9, seed=4).inputs)


@pytest.mark.parametrize("task", TASKS)
def test_lengths_that_a_task_cannot_have_are_refused(task):
    with pytest.raises(InputError, match="at least 4 symbols, got 3"):
        drawn(task, 3)
    if task in ("add", "multiply"):
        with pytest.raises(InputError, match="at most 63 for numbers, got 64"):
            drawn(task, 64)

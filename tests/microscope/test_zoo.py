"""Every model type of transformers that takes its attention from the interface, as a tiny random model.

`attach` itself requires that outputs are equal to the bit, and that each layer's output is P @ value; so it is enough
that it does not raise, and that it saw something.
"""

import pytest
import torch

from limelight import microscope
from tests.huggingface.test_zoo import FOUND, of_its_version
from tests.huggingface.zoo import compare, inputs

TYPES = sorted(name for name, row in FOUND["types"].items() if row["result"] in ("equal", "refused"))


@pytest.mark.slow
@of_its_version
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TYPES)
def test_a_type_can_be_watched(name):
    model = compare.build(name)
    given = inputs.asked(model, lambda given: compare.run(model, given))
    plain = compare.run(model, given)
    with microscope.attach(model) as scope:
        out = compare.run(model, given)
    assert scope.difference == 0
    assert all(torch.equal(plain[key].nan_to_num(), out[key].nan_to_num()) for key in plain)
    for P in scope:
        assert 0 in P.shape or P.entropy().isfinite().all()


@pytest.mark.slow
@of_its_version
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TYPES)
@torch.no_grad()
def test_a_type_runs_with_all_its_heads_computed_by_the_operator(name):
    model = compare.build(name)
    given = inputs.asked(model, lambda given: compare.run(model, given))
    with microscope.attach(model) as scope:
        plain = compare.run(model, given)
    with scope.intervene(microscope.Temperature(1.0)):
        out = compare.run(model, given)
    for key, own in plain.items():  # some types return sound, whose samples go from 1 to 30,000
        mine, right = (x.nan_to_num().double() for x in (out[key], own))
        assert mine.shape == right.shape
        assert (mine - right).norm() <= 1e-4 * right.norm()

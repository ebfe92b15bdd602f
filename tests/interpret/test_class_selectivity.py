"""Areas under the ROC curve by counting pairs, and tolerance by NumPy's correlation."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from limelight import InputError
from limelight.interpret.class_selectivity import class_areas, tolerance


def test_areas_count_the_pairs_in_which_the_response_to_a_class_is_larger():
    generator = torch.Generator().manual_seed(0)
    responses = torch.randint(0, 6, (60, 4), generator=generator).double()  # many ties
    labels = torch.arange(60) % 3
    found = class_areas(responses, labels, 3)
    for unit in range(4):
        for c in range(3):
            inside, outside = responses[labels == c, unit, None], responses[labels != c, unit]
            pairs = (inside > outside).double() + (inside == outside).double() / 2
            assert float(found[unit, c]) == pytest.approx(float(pairs.mean()))
            assert float(found[unit, c]) == pytest.approx(roc_auc_score(labels == c, responses[:, unit]))


def test_areas_of_units_of_known_answer():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    ideal = torch.nn.functional.one_hot(labels, 3).float()
    silent = torch.zeros(6, 1)
    found = class_areas(torch.cat([ideal, -ideal, silent], 1), labels, 3)
    torch.testing.assert_close(found[:3].diagonal(), torch.ones(3))
    torch.testing.assert_close(found[3:6].diagonal(), torch.zeros(3))
    torch.testing.assert_close(found[6], torch.full((3,), 0.5))


def test_only_the_order_of_responses_counts():
    responses = torch.randn(30, 5)
    labels = torch.arange(30) % 2
    found = class_areas(responses, labels, 2)
    torch.testing.assert_close(class_areas((3 * responses).exp(), labels, 2), found)
    torch.testing.assert_close(found.sum(1), torch.ones(5))  # of two classes one is the other of the other


def test_tolerance_is_the_correlation_of_each_unit():
    first, second = torch.randn(2, 40, 3, dtype=torch.float64)
    second[:, 1] = 2 * first[:, 1] + 5
    second[:, 2] = 4
    found = tolerance(first, second)
    assert float(found[0]) == pytest.approx(np.corrcoef(first[:, 0], second[:, 0])[0, 1])
    assert float(found[1]) == pytest.approx(1)
    assert found[2].isnan()
    torch.testing.assert_close(tolerance(1e3 + first.float(), 1e3 + first.float()), torch.ones(3))


def test_what_cannot_be_judged_is_refused():
    responses, labels = torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match="images of every class"):
        class_areas(responses, labels, 4)
    with pytest.raises(InputError, match="images of every class"):
        class_areas(responses, torch.zeros(6, dtype=torch.long), 1)
    with pytest.raises(InputError, match="labels from 0 to 1"):
        class_areas(responses, labels, 2)
    with pytest.raises(InputError, match="labels from 0"):
        class_areas(responses, labels - 1, 3)
    with pytest.raises(InputError, match=r"responses \(5, units\)"):
        class_areas(responses, labels[:5], 3)
    with pytest.raises(InputError, match="NaN"):
        class_areas(torch.full((6, 1), float("nan")), labels, 3)
    for first, second in ((responses, responses[:5]), (responses, responses[:, :1]), (responses[:1], responses[:1])):
        with pytest.raises(InputError, match="tolerance expects responses"):
            tolerance(first, second)
    with pytest.raises(InputError, match="NaN"):
        tolerance(responses, responses / 0 * 0)

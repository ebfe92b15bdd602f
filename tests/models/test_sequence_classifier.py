"""The classifier of sequences is the mean of its outputs, and refuses what has no meaning."""

import pytest
import torch
from torch import nn

from limelight import InputError
from limelight.models.sequence_classifier import SequenceClassifier
from limelight.models.transformer import EncoderLayer


def test_the_logits_are_those_of_the_mean_output():
    model = SequenceClassifier(10, 8, classes=3, positions=nn.Identity(), layers=[EncoderLayer(8, 2, 16)])
    x = torch.randint(10, (4, 5))
    torch.testing.assert_close(model(x), model.classifier(model.outputs(x).mean(1)))
    assert model(x).shape == (4, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((1, 3), 10), "from 0 to 9, got tokens from 10 to 10"),
        (torch.zeros(1, 0, dtype=torch.long), r"\(n, t\) with n ≥ 1 and t ≥ 1"),
        (torch.zeros(3, dtype=torch.long), r"got \(3,\)"),
    ],
)
def test_bad_sequences_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        SequenceClassifier(10, 8, 2, nn.Identity(), [nn.Identity()])(x)


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="classes expects a whole number ≥ 1, got 0"):
        SequenceClassifier(10, 8, 0, nn.Identity(), [])

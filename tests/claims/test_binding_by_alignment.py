"""What the claim on binding calls separated, and the identities that it checks."""

import numpy as np
import pytest
import torch
from torch import nn

from limelight import figures
from limelight.claims import binding_by_alignment as claim
from limelight.data.shapes import CROSSING, every_scene
from limelight.models.rotating_features import no_binding


def scenes(n=20):
    images, labels = every_scene(claim.KINDS)
    which = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    return images[which], labels[which]


def pointing(images, angles):
    return images * torch.stack([angles.cos(), angles.sin()])


def test_one_direction_for_each_object_is_separated():
    images, labels = scenes()
    clusters = claim.clusters_of(pointing(images, 2.0 * labels.clamp(min=0)), labels)
    assert claim.agreement(clusters, labels) == 1
    assert ((clusters == -1) == (labels == CROSSING)).all()


def test_one_direction_for_all_or_one_for_each_place_is_not_separated():
    images, labels = scenes()
    rows = torch.arange(12.0)[:, None].expand_as(images)
    for angles in (torch.zeros_like(images), rows / 4):
        clusters = claim.clusters_of(pointing(images, angles), labels)
        assert claim.agreement(clusters, labels) < 0.4


def test_a_short_vector_has_no_direction():
    images, labels = scenes(5)
    features = pointing(0.05 * images, 2.0 * labels.clamp(min=0))
    assert claim.agreement(claim.clusters_of(features, labels), labels) == 0


def test_positions_alone_separate_objects_that_are_apart():
    _, labels = scenes(200)
    apart = (labels == CROSSING).flatten(1).sum(1) == 0
    found = [claim.agreement(claim.clusters_of_positions(labels[chosen]), labels[chosen]) for chosen in (apart, ~apart)]
    assert found[0] > found[1] + 0.1


def test_fewer_points_than_clusters():
    assert set(claim.k_means(torch.tensor([[0.0], [0.0], [5.0]]), 3).tolist()) == {0, 1}


def test_the_identities_hold():
    found = claim.identities(torch.Generator().manual_seed(0))
    assert set(found) == {"lengths", "vectors", "attention"}
    assert max(found.values()) < claim.ROUNDING


@pytest.mark.parametrize(
    ("broken", "wrong"), [("chi_binding", {"lengths", "attention"}), ("cosine_binding", {"vectors", "attention"})]
)
def test_the_identities_see_another_binding(broken, wrong, monkeypatch):
    monkeypatch.setattr(claim, broken, no_binding)
    found = claim.compared(nn.Linear(6, 4, bias=False).double(), torch.randn(3, 2, 6, dtype=torch.float64))
    assert {name for name, each in found.items() if each > claim.ROUNDING} == wrong


def test_a_turn_is_from_zero_to_one():
    angles = torch.tensor([0.0, 0.25, 0.5, 0.75]) * 2 * torch.pi
    features = torch.stack([angles.cos(), angles.sin()])[:, :, None, None]
    torch.testing.assert_close(claim.turns(features).flatten(), torch.tensor([0.0, 0.25, 0.5, 0.75]))


def test_the_circle_of_colors_is_closed_and_nan_is_empty():
    given = np.array([[[0.0, np.nan], [0.5, 1.0]]])
    (figure,) = figures.hues({"drawn": given, "absent": None})
    (drawn,) = figure.data
    assert drawn.colorscale[0][1] == drawn.colorscale[-1][1]
    assert (drawn.zmin, drawn.zmax) == (0, 1)
    np.testing.assert_array_equal(drawn.z, given[0])

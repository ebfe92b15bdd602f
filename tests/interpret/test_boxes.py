"""Boxes are around the highest peak of a map, and are compared as their definitions say."""

import pytest
import torch

from limelight import InputError
from limelight.interpret.boxes import boxes_around_peaks, enlarged, intersection_over_union, pointed


def test_a_box_holds_the_highest_peak_and_no_other():
    seen = torch.zeros(1, 8, 8)
    seen[0, 1:3, 1:4] = 0.5
    seen[0, 2, 2] = 1.0
    seen[0, 0, 7] = seen[0, 6, 6] = 0.9  # not connected
    assert boxes_around_peaks(seen, 0.4).tolist() == [[1, 1, 3, 4]]
    assert boxes_around_peaks(seen, 0.6).tolist() == [[2, 2, 3, 3]]
    seen[0, 3:7, 3] = seen[0, 6, 3:6] = 0.5  # a bridge
    assert boxes_around_peaks(seen, 0.4).tolist() == [[1, 1, 7, 7]]


def test_corners_do_not_connect():
    seen = torch.eye(4)[None]
    assert boxes_around_peaks(seen, 0.5).tolist() == [[0, 0, 1, 1]]


def test_the_scale_of_a_map_does_not_matter():
    seen = torch.rand(20, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(boxes_around_peaks(seen, 0.7), boxes_around_peaks(1024 * seen, 0.7))


def test_a_map_without_a_positive_value_has_the_whole_image():
    assert boxes_around_peaks(-torch.ones(2, 3, 5), 0.5).tolist() == [[0, 0, 3, 5]] * 2


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_is_between_zero_and_one(share):
    with pytest.raises(InputError, match="between 0 and 1"):
        boxes_around_peaks(torch.ones(1, 2, 2), share)


def test_maps_are_a_batch_of_finite_matrices():
    with pytest.raises(InputError, match=r"shape \(n, h, w\)"):
        boxes_around_peaks(torch.ones(2, 2), 0.5)
    seen = torch.ones(2, 3, 3)
    seen[1, 0, 0] = float("nan")
    with pytest.raises(InputError, match="finite"):
        boxes_around_peaks(seen, 0.5)


def test_overlap_counts_pixels():
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 6, (200, 2, 2), generator=generator)
    a, b = (
        torch.cat([first[:, i], first[:, i] + torch.randint(1, 5, (200, 2), generator=generator)], 1) for i in (0, 1)
    )
    found = intersection_over_union(a.float(), b.float())
    for i in range(200):
        cells = [
            {(y, x) for y in range(top, bottom) for x in range(left, right)}
            for top, left, bottom, right in (a[i].tolist(), b[i].tolist())
        ]
        assert float(found[i]) == pytest.approx(len(cells[0] & cells[1]) / len(cells[0] | cells[1]))


def test_a_peak_on_the_edge_of_a_box_is_in_it_only_at_the_beginning():
    boxes = torch.tensor([[1.0, 1.0, 3.0, 3.0]]).expand(3, 4)
    seen = torch.zeros(3, 4, 4)
    seen[0, 1, 1] = seen[1, 2, 2] = seen[2, 3, 1] = 1.0
    assert pointed(seen, boxes).tolist() == [1.0, 1.0, 0.0]


def test_an_enlarged_map_has_its_peak_at_the_same_place():
    seen = torch.zeros(1, 9, 9)
    seen[0, 2, 6] = 1.0
    large = enlarged(seen, 18, 18)
    assert large.shape == (1, 18, 18)
    rows, cols = (large[0] >= 0.5).nonzero(as_tuple=True)
    assert set(rows.tolist()) == {4, 5}
    assert set(cols.tolist()) == {12, 13}

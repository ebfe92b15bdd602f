"""Objects in front of photographs: what is the object's is known, and what is not installed is said."""

import pytest
import torch

from limelight.data import pasted_objects
from limelight.data.pasted_objects import CHOOSING, DRAWINGS, JUDGED, SIDE, paste, pasted
from limelight.errors import MissingExtraError


@pytest.fixture
def without_files(monkeypatch):
    """Photographs of noise, and an opaque square with a see-through border in place of each drawing."""
    drawing = torch.zeros(4, 20, 30)
    drawing[:, 2:18, 2:28] = 1
    noise = torch.rand(2, 3, 200, 300, generator=torch.Generator().manual_seed(0)) / 2
    monkeypatch.setattr(pasted_objects, "photographs", lambda: noise)
    monkeypatch.setattr(pasted_objects, "drawn", lambda character: drawing)


def test_pixels_are_mixed_by_opacity():
    drawing = torch.stack([*torch.tensor([0.2, 0.4, 0.6])[:, None].expand(3, 4), torch.tensor([0, 0.25, 0.6, 1.0])])
    found = paste(torch.ones(3, 3, 6), drawing[:, None], 1, 2)
    torch.testing.assert_close(found.pixels[:, 1, 2:], drawing[3] * drawing[:3] + 1 - drawing[3])
    assert (found.pixels[:, [0, 2]] == 1).all()
    assert found.mask.nonzero().tolist() == [[1, 4], [1, 5]]  # those that are at least half opaque
    assert found.box.tolist() == [1, 4, 2, 6]


def test_an_object_lies_within_its_picture_and_its_box(without_files):
    sizes = set()
    for seed in range(20):
        found = pasted(JUDGED, seed)
        assert found.pixels.shape == (3, SIDE, SIDE)
        assert 0 <= found.pixels.min() <= found.pixels.max() <= 1
        top, left, bottom, right = found.box.tolist()
        assert found.mask[top:bottom, left:right].float().mean() > 0.95
        assert found.mask.sum() == found.mask[top:bottom, left:right].sum()
        assert found.pixels[:, found.mask].mean() > 0.9
        assert 0.02 < found.mask.float().mean() < 0.25
        sizes.add((bottom - top, right - left))
    assert len(sizes) > 10
    again, other = pasted(JUDGED, 3), pasted(JUDGED, 4)
    assert torch.equal(again.pixels, pasted(JUDGED, 3).pixels)
    assert not torch.equal(again.pixels, other.pixels)


def test_drawings_that_choose_are_not_judged():
    assert not set(CHOOSING) & set(JUDGED)
    assert sorted(CHOOSING + JUDGED) == sorted(DRAWINGS)
    assert len(set(DRAWINGS)) == len(DRAWINGS)
    assert len(JUDGED) >= 30


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(pasted_objects, "_font", lambda: None)
    assert "apt-get install fonts-noto-color-emoji" in pasted_objects.missing()
    assert pasted_objects.fingerprint.__wrapped__() == ""
    with pytest.raises(MissingExtraError, match="fonts-noto-color-emoji"):
        pasted_objects.drawn.__wrapped__("x")
    monkeypatch.setattr(pasted_objects.importlib.util, "find_spec", lambda name: None)
    assert pasted_objects.missing() == "sklearn, PIL is not installed: pip install 'limelight[claims,images]'"


def test_the_drawings_of_the_font():
    if problem := pasted_objects.missing():
        pytest.skip(problem)
    for character in DRAWINGS:
        drawing = pasted_objects.drawn(character)
        assert drawing[3].amax() > 0.9
        assert min(drawing.shape[1:]) > 60
        assert (drawing[3].amax(0)[[0, -1]] > 0).all()  # nothing empty around it
        assert drawing[:3, drawing[3] > 0.9].std() > 0.05

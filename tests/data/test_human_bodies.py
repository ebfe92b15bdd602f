"""The scanned bodies are read as published, and a file that is missing or does not fit is named."""

import pytest
import torch

from limelight.data import human_bodies as data
from limelight.data.human_bodies import human_bodies, surface_points
from limelight.data.mesh_files import Mesh, read_mesh
from limelight.errors import InputError, MissingExtraError
from tests.data.scanned_bodies import TETRAHEDRON, write_bodies


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "UNSEEN", 2)
    data.labeled_mesh.cache_clear()
    write_bodies(tmp_path)
    return tmp_path


def test_bodies_are_read_as_points_on_their_triangles(folder):
    known, unseen = human_bodies(folder, 4, 50, seeded())
    assert (known.points.shape, unseen.points.shape) == ((4, 50, 3), (2, 50, 3))
    assert known.parts.unique().tolist() == [0, 1, 2, 7]  # the labels are 1, 2, 3 and 8
    torch.testing.assert_close(known.normals.norm(dim=-1), torch.ones(4, 50))
    torch.testing.assert_close(known.points.mean(1), torch.zeros(4, 3), atol=1e-6, rtol=0)
    other, _ = human_bodies(folder, 4, 50, seeded(1))
    again, _ = human_bodies(folder, 4, 50, seeded())
    assert torch.equal(known.points, again.points)
    assert not torch.equal(known.points, other.points)


def test_every_body_has_its_own_labels_or_those_of_its_collection(folder):
    known, unseen = data.pairs(folder)
    named = [(mesh.relative_to(folder).as_posix(), labels.relative_to(folder).as_posix()) for mesh, labels in known]
    assert named == [
        ("meshes/train/adobe/0.off", "segs/train/adobe/0.txt"),
        ("meshes/train/faust/tr_0.off", "segs/train/faust/faust_corrected.txt"),
        ("meshes/train/faust/tr_1.off", "segs/train/faust/faust_corrected.txt"),
        ("meshes/train/scape/0.off", "segs/train/scape/scape_corrected.txt"),
        ("meshes/train/MIT_animation/meshes_crane/meshes/0.off", "segs/train/mit/mit_crane_corrected.txt"),
    ]
    assert {labels.name: mesh.name for mesh, labels in unseen} == {
        "shrec_1_full.txt": "1.off",
        "shrec_12_full.txt": "12_fix_orientation.off",
    }


def test_without_the_folder_the_error_names_the_download_and_the_stand_in(tmp_path):
    with pytest.raises(MissingExtraError, match=r"download human_benchmark_sig_17\.zip.*articulated_bodies"):
        human_bodies(tmp_path / "nowhere", 1, 10, seeded())


@pytest.mark.parametrize(
    "lacking",
    [
        "meshes/train/adobe/0.off",
        "segs/train/adobe/0.txt",
        "segs/train/faust/faust_corrected.txt",
        "segs/train/mit/mit_crane_corrected.txt",
        "segs/test/shrec/shrec_1_full.txt",
        "meshes/test/shrec/1.off",
    ],
)
def test_a_missing_file_is_named(folder, lacking):
    (folder / lacking).unlink()
    with pytest.raises(MissingExtraError, match=rf"need .*{lacking.split('/')[-2]}.*not all of which are there"):
        data.pairs(folder)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("1\n2\n3\n", r"a label for each of the 4 triangles of .*0\.off, got 3"),
        ("1\n2\n3\n8\n8\n", "got 5"),
        ("1\n2\n3\n9\n", "numbers from 1 to 8 only, got '9'"),
        ("0\n2\n3\n8\n", "got '0'"),
        ("1\n2\n3\n1.5\n", r"got '1\.5'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(folder, labels, problem):
    (folder / "segs/train/adobe/0.txt").write_text(labels)
    with pytest.raises(InputError, match=rf"0\.txt must have .*{problem}"):
        human_bodies(folder, 5, 10, seeded())


def test_a_damaged_mesh_and_too_many_bodies_are_refused(folder):
    with pytest.raises(InputError, match="train expects a number from 1 to 5"):
        human_bodies(folder, 6, 10, seeded())
    mesh = folder / "meshes/test/shrec/1.off"
    mesh.write_text(mesh.read_text()[:-8])
    with pytest.raises(InputError, match=r"1\.off is no whole mesh"):
        human_bodies(folder, 1, 10, seeded())


def test_points_are_spread_by_area_and_lie_in_their_triangle(tmp_path):
    (tmp_path / "a.off").write_text(TETRAHEDRON)
    mesh = read_mesh(tmp_path / "a.off")
    x, normals, labels = surface_points(mesh, torch.arange(4), 20_000, seeded())
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    areas = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    torch.testing.assert_close(labels.bincount() / 20_000, areas / areas.sum(), atol=0.01, rtol=0)
    assert ((x - a[labels]) * normals).sum(1).abs().max() < 1e-5
    weights = torch.linalg.lstsq(torch.stack([a, b, c], 2)[labels], x[..., None]).solution[..., 0]
    in_plane = weights[(weights.sum(1) - 1).abs() < 1e-3]  # a triangle through 0 has no such weights
    assert len(in_plane) > 1000
    assert in_plane.min() > -1e-3
    torch.testing.assert_close(in_plane.mean(0), torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_a_mesh_without_area_is_refused():
    flat = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), torch.tensor([[0, 1, 2]]))
    with pytest.raises(InputError, match="a mesh with an area"):
        surface_points(flat, torch.zeros(1, dtype=torch.long), 5, seeded())

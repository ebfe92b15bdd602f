"""Scanned human bodies whose parts have been labeled (Maron et al. 2017), where a user has the files.

They are meshes of SCAPE, FAUST, Adobe Fuse and MIT to learn from, and 18 of SHREC to test on. Each triangle has one of
eight labels, and left and right share one. They do not come with a package, so they have to be downloaded;
`limelight.data.articulated_bodies` generates bodies that stand in for them. Meshes and labels are read as text and
numbers, and nothing in the files is run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.data.articulated_bodies import Bodies
from limelight.data.mesh_files import Mesh, read_mesh
from limelight.errors import InputError, MissingExtraError

LABELS = 8
UNSEEN = 18  # bodies to test on
MESHES = (".off", ".obj", ".ply")
SOURCE = "https://www.dropbox.com/sh/cnyccu3vtuhq1ii/AADgGIN6rKbvWzv0Sh-Kr417a?dl=0"
Labeled = tuple[Mesh, Int[Tensor, " faces"]]


def human_bodies(folder: str | Path, train: int, points: int, generator: torch.Generator) -> tuple[Bodies, Bodies]:
    """(`train` of the bodies to learn from, drawn at random; all 18 to test on), as points spread over their surface.

    folder: the unpacked archive, with the folders `meshes` and `segs`. Each body is moved and scaled as
    `Bodies.standardized` does. A point has the label of its triangle, from 0 to 7.

    Raises `MissingExtraError`, which says how to get the data, where files are missing, and `InputError` for a damaged
    file, for labels of another number than the mesh has triangles, and where fewer bodies are there.
    """
    known, unseen = pairs(Path(folder))
    if not 1 <= train <= len(known):
        raise InputError(f"train expects a number from 1 to {len(known)}, the bodies in {folder}, got {train}")
    chosen = [known[i] for i in torch.randperm(len(known), generator=generator)[:train].tolist()]
    learned, tested = (_sampled([labeled_mesh(*pair) for pair in each], points, generator) for each in (chosen, unseen))
    return learned, tested


def pairs(folder: Path) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """The files of the mesh and of the labels of each body, of those to learn from and of those to test on.

    Raises `MissingExtraError` where a part of the collection, or the labels of a mesh, are missing.
    """
    meshes, labels = folder / "meshes" / "train", folder / "segs" / "train"
    one_for_all = {source: labels / source / f"{source}_corrected.txt" for source in ("faust", "scape")}
    known = [(mesh, labels / "adobe" / f"{mesh.stem}.txt") for mesh in _meshes_in(meshes / "adobe")]
    known += [(mesh, file) for source, file in one_for_all.items() for mesh in _meshes_in(meshes / source)]
    poses = sorted((meshes / "MIT_animation").glob("meshes_*"))
    if not poses:
        raise _missing(meshes / "MIT_animation" / "meshes_*")
    for pose in poses:
        file = labels / "mit" / f"mit_{pose.name.removeprefix('meshes_')}_corrected.txt"
        known += [(mesh, file) for mesh in _meshes_in(pose / "meshes")]
    unseen = _of_shrec(folder)
    for _, file in (*known, *unseen):
        if not file.is_file():
            raise _missing(file)
    return known, unseen


def _of_shrec(folder: Path) -> list[tuple[Path, Path]]:
    """The bodies to test on. Where a mesh is there twice, the one counts whose orientation was fixed."""
    files = sorted((folder / "segs" / "test" / "shrec").glob("shrec_*_full.txt"))
    if len(files) < UNSEEN:
        raise _missing(folder / "segs" / "test" / "shrec" / "shrec_*_full.txt", f"{UNSEEN} files ")
    in_order = _meshes_in(folder / "meshes" / "test" / "shrec")  # 12.off comes before 12_fix_orientation.off
    meshes = {mesh.stem.split("_")[0]: mesh for mesh in in_order}
    found = []
    for file in files:
        number = file.stem.split("_")[1]
        if number not in meshes:
            raise _missing(folder / "meshes" / "test" / "shrec" / f"{number}.off")
        found.append((meshes[number], file))
    return found


def _meshes_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in MESHES)
    if not found:
        raise _missing(folder / "*.off")
    return found


def _missing(path: Path, count: str = "") -> MissingExtraError:
    return MissingExtraError(
        f"the human bodies of Maron et al. 2017 need {count}{path}, not all of which are there: download "
        f"human_benchmark_sig_17.zip from {SOURCE}, unpack it, and give the folder that holds meshes and segs; without "
        "it the claim attention_on_shapes runs on generated bodies, of limelight.data.articulated_bodies"
    )


@cache
def labeled_mesh(mesh: Path, labels: Path) -> Labeled:
    """A mesh and the label of each of its triangles, from 0 to 7.

    Raises `InputError` for a damaged file, and for labels that are not one from 1 to 8 for each triangle.
    """
    found = read_mesh(mesh)
    words = labels.read_text(encoding="utf-8").split()
    allowed = {str(label): label - 1 for label in range(1, LABELS + 1)}
    if wrong := next((word for word in words if word not in allowed), ""):
        raise InputError(f"{labels} must have numbers from 1 to {LABELS} only, got {wrong!r}; fetch it again")
    if len(words) != len(found.faces):
        raise InputError(
            f"{labels} must have a label for each of the {len(found.faces)} triangles of {mesh}, got {len(words)}; "
            "fetch both again"
        )
    return found, torch.tensor([allowed[word] for word in words])


def _sampled(meshes: list[Labeled], points: int, generator: torch.Generator) -> Bodies:
    drawn = [surface_points(*labeled, points, generator) for labeled in meshes]
    x, normals, parts = (torch.stack(each) for each in zip(*drawn, strict=True))
    return Bodies(x, normals, parts).standardized()


def surface_points(
    mesh: Mesh, labels: Int[Tensor, " faces"], points: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Int[Tensor, " n"]]:
    """Points a + s (b − a) + t (c − a) drawn evenly from the surface, the normals of their triangles, and the labels.

    A triangle is drawn by its area. A pair (s, t) from the square, of which the half with s + t > 1 is turned over, is
    spread evenly over it. Raises `InputError` for a mesh without area.
    """
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    areas = normals.norm(dim=1)
    if not areas.sum() > 0:
        raise InputError("points on a surface expect a mesh with an area, got triangles whose corners lie on a line")
    face = torch.multinomial(areas, points, replacement=True, generator=generator)
    st = torch.rand(points, 2, generator=generator)
    s, t = torch.where(st.sum(1, keepdim=True) > 1, 1 - st, st).mT[..., None]
    x = a[face] + s * (b - a)[face] + t * (c - a)[face]
    return x, torch.nn.functional.normalize(normals[face], dim=1), labels[face]

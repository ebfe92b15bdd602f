"""Triangle meshes from files in the formats OFF, OBJ and PLY, which are checked as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # of PLY, as NumPy names them  # fmt: skip


@dataclass(frozen=True)
class Mesh:
    """Vertices in space, and triangles, each of which is the numbers of its three vertices, counted from 0."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]


def read_mesh(path: str | Path) -> Mesh:
    """The mesh in a file `.off`, `.obj` or `.ply` (as text, or binary with the lowest byte first).

    Raises `InputError`, which names the file and what is wrong with it, where it has another format, faces that are no
    triangles, other numbers of rows than it declares, or a face with a vertex that it does not have.
    """
    path = Path(path)
    readers = {".off": _off, ".obj": _obj, ".ply": _ply}
    if path.suffix.lower() not in readers:
        raise InputError(f"a mesh expects a file .off, .obj or .ply, got {path}")
    try:
        vertices, faces = readers[path.suffix.lower()](path)
        mesh = Mesh(torch.tensor(vertices, dtype=torch.float32), torch.tensor(faces, dtype=torch.long))
    except (ValueError, IndexError, KeyError, OverflowError, OSError) as problem:
        if isinstance(problem, InputError):
            raise
        _refuse(path, f"it cannot be read ({problem})")
    if mesh.vertices.ndim != 2 or mesh.faces.ndim != 2 or not mesh.vertices.isfinite().all():
        _refuse(path, "it has no faces, or coordinates that are not finite")
    if not 0 <= int(mesh.faces.min()) <= int(mesh.faces.max()) < len(mesh.vertices):
        _refuse(path, f"its faces name vertices outside its {len(mesh.vertices)}")
    return mesh


def _refuse(path: Path, problem: str) -> NoReturn:
    raise InputError(f"{path} is no whole mesh of triangles: {problem}; fetch it again")


def _rows(path: Path) -> list[list[str]]:
    """The words of each line, without comments and empty lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [words for line in lines if (words := line.split("#")[0].split())]


def _triangles(path: Path, rows: list[list[str]]) -> np.ndarray:
    """Faces from rows that begin with the number of their vertices."""
    if any(row[0] != "3" for row in rows):
        _refuse(path, "a face has other than three vertices")
    return np.array([row[1:4] for row in rows], dtype=np.int64)


def _off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The word OFF, the numbers of vertices, faces and edges, then a row for each vertex and each face."""
    rows = _rows(path)
    if not rows or rows[0][0] != "OFF":
        _refuse(path, "it does not begin with OFF")
    counts, rest = (rows[0][1:], rows[1:]) if len(rows[0]) > 1 else (rows[1], rows[2:])
    vertices, faces = int(counts[0]), int(counts[1])
    if len(rest) != vertices + faces:
        _refuse(path, f"it declares {vertices} vertices and {faces} faces and has {len(rest)} rows")
    return np.array([row[:3] for row in rest[:vertices]], dtype=float), _triangles(path, rest[vertices:])


def _obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows `v x y z`, and `f a b c` with vertices counted from 1, or from −1 backwards; other rows are not needed."""
    rows = _rows(path)
    vertices = np.array([row[1:4] for row in rows if row[0] == "v"], dtype=float)
    named = [["3" if len(row) == 4 else "other", *(word.split("/")[0] for word in row[1:])] for row in rows
             if row[0] == "f"]  # fmt: skip
    faces = _triangles(path, named)
    return vertices, np.where(faces < 0, faces + len(vertices), faces - 1)


def _ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A header that ends with `end_header`, then all vertices, then all faces."""
    content = path.read_bytes()
    head, mark, body = content.partition(b"end_header\n")
    lines = [line.split() for line in head.decode("ascii").splitlines()]
    if not mark or lines[0] != ["ply"]:
        _refuse(path, "it has no header of PLY with lines that end with a line feed")
    counts = {line[1]: int(line[2]) for line in lines if line[0] == "element"}
    if list(counts) != ["vertex", "face"]:
        _refuse(path, f"it has the elements {', '.join(counts)}, and vertex and face are expected")
    begins = next(i for i, line in enumerate(lines) if line[:2] == ["element", "face"])
    fields = [(line[2], "<" + _TYPES[line[1]]) for line in lines[:begins] if line[0] == "property"]
    listed = next(line for line in lines[begins:] if line[0] == "property")
    encoding = next(line[1] for line in lines if line[0] == "format")
    if encoding == "ascii":
        return _ply_text(path, body, [name for name, _ in fields], counts)
    if encoding != "binary_little_endian" or sum(line[0] == "property" for line in lines[begins:]) != 1:
        _refuse(path, "it is binary with the highest byte first, or its faces have more than their vertices")
    of_face = np.dtype([("count", "<" + _TYPES[listed[2]]), ("vertices", "<" + _TYPES[listed[3]], 3)])
    of_vertex = np.dtype(fields)
    size = counts["vertex"] * of_vertex.itemsize
    if len(body) != size + counts["face"] * of_face.itemsize:
        _refuse(path, f"it has {len(body)} bytes after its header, other than {counts} triangles take")
    vertices, faces = np.frombuffer(body[:size], of_vertex), np.frombuffer(body[size:], of_face)
    if (faces["count"] != 3).any():
        _refuse(path, "a face has other than three vertices")
    return np.stack([vertices[axis] for axis in "xyz"], 1).astype(float), faces["vertices"].astype(np.int64)


def _ply_text(path: Path, body: bytes, names: list[str], counts: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    rows = [words for line in body.decode("ascii").splitlines() if (words := line.split())]
    if len(rows) != sum(counts.values()):
        _refuse(path, f"it declares {counts} and has {len(rows)} rows")
    places = [names.index(axis) for axis in "xyz"]
    vertices = [[row[place] for place in places] for row in rows[: counts["vertex"]]]
    return np.array(vertices, dtype=float), _triangles(path, rows[counts["vertex"] :])

"""Meshes are read from OFF, OBJ and PLY, and a damaged file is named with what is wrong with it."""

import struct

import pytest

from limelight.data.mesh_files import read_mesh
from limelight.errors import InputError

VERTICES = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.5]]
FACES = [[0, 1, 2], [0, 1, 3], [3, 1, 2]]
CORNERS = "0 0 0\n1 0 0\n0 2 0\n0 0 3.5\n"
TRIANGLES = "3 0 1 2\n3 0 1 3\n3 3 1 2\n"
OFF = f"OFF\n4 3 0\n{CORNERS}{TRIANGLES}"
OBJ = "# a comment\nv 0 0 0\nv 1 0 0\nv 0 2 0\nvn 0 0 1\nv 0 0 3.5\nf 1 2 3\nf 1/1/1 2/2/1 4/1/1\nf -1 2 -2\n"
HEAD = (
    "ply\nformat {} 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\n"
    "element face 3\nproperty list uchar int vertex_indices\nend_header\n"
)


def binary():
    vertices = b"".join(struct.pack("<fffB", *vertex, 9) for vertex in VERTICES)
    return (
        HEAD.format("binary_little_endian").encode() + vertices + b"".join(struct.pack("<Biii", 3, *f) for f in FACES)
    )


FILES = {
    "a.off": OFF,
    "b.off": OFF.replace("OFF\n4", "OFF 4"),
    "a.obj": OBJ,
    "a.ply": HEAD.format("ascii") + CORNERS.replace("\n", " 9\n") + TRIANGLES,
    "b.ply": binary(),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_mesh(name, tmp_path):
    content, path = FILES[name], tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    mesh = read_mesh(path)
    assert mesh.vertices.tolist() == VERTICES
    assert mesh.faces.tolist() == FACES


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.off", OFF.replace("OFF", "COFF"), "begin with OFF"),
        ("x.off", OFF.replace("4 3 0", "4 4 0"), "declares 4 vertices and 4 faces and has 7 rows"),
        ("x.off", OFF[:-8], "has 6 rows"),
        ("x.off", OFF.replace("3 3 1 2", "3 3 1 4"), "outside its 4"),
        ("x.off", OFF.replace("3 3 1 2", "4 3 1 2 0"), "other than three vertices"),
        ("x.off", OFF.replace("3.5", "nan"), "not finite"),
        ("x.off", OFF.replace("3.5", "high"), "cannot be read"),
        ("x.off", "", "begin with OFF"),
        ("x.off", "OFF\n", "cannot be read"),
        ("x.obj", OBJ + "f 1 2 3 4\n", "other than three vertices"),
        ("x.obj", OBJ + "f 1 2 5\n", "outside its 4"),
        ("x.obj", "v 0 0 0\n", "no faces"),
        ("x.ply", binary()[:-1], "bytes after its header"),
        ("x.ply", binary().replace(b"little", b"big"), "highest byte first"),
        ("x.ply", binary()[:-13] + b"\x04" + binary()[-12:], "other than three vertices"),
        ("x.ply", FILES["a.ply"] + "3 0 1 2\n", "has 8 rows"),
        ("x.ply", FILES["a.ply"].replace("end_header\n", ""), "no header"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_what_is_wrong(name, content, problem, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"{name} is no whole mesh.*{problem}.*fetch it again"):
        read_mesh(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expects a file \.off, \.obj or \.ply, got .*mesh\.pt"):
        read_mesh(tmp_path / "mesh.pt")
    with pytest.raises(InputError, match="cannot be read"):
        read_mesh(tmp_path / "absent.off")

"""Small files in the folders and with the names of the scanned bodies of Maron et al. 2017."""

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 2 0\n0 0 3\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
LABELS = "1\n2\n3\n8\n"
FILES = {
    "meshes/train/adobe/0.off": TETRAHEDRON,
    "meshes/train/faust/tr_0.off": TETRAHEDRON,
    "meshes/train/faust/tr_1.off": TETRAHEDRON,
    "meshes/train/scape/0.off": TETRAHEDRON,
    "meshes/train/MIT_animation/meshes_crane/meshes/0.off": TETRAHEDRON,
    "meshes/test/shrec/1.off": TETRAHEDRON,
    "meshes/test/shrec/12.off": "",
    "meshes/test/shrec/12_fix_orientation.off": TETRAHEDRON,
    "segs/train/adobe/0.txt": LABELS,
    "segs/train/faust/faust_corrected.txt": LABELS,
    "segs/train/scape/scape_corrected.txt": LABELS,
    "segs/train/mit/mit_crane_corrected.txt": LABELS,
    "segs/test/shrec/shrec_1_full.txt": LABELS,
    "segs/test/shrec/shrec_12_full.txt": LABELS,
}


def write_bodies(folder):
    """Five bodies to learn from and two to test on, each a tetrahedron."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

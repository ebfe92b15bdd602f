"""Draw docs/images/rooms-light.svg and rooms-dark.svg, the rooms of the program: `python docs/rooms.py`.

Rooms and their rows are those that tests/test_imports.py holds the imports to.
"""

from html import escape
from pathlib import Path

IMAGES = Path(__file__).with_name("images")
ROWS = [
    ("programs", {"cli": "the command line", "lab": "pages in the browser"}),
    (
        "results",
        {
            "claims": "statements on trial",
            "experiment": "trials, results, verdicts",
            "report": "report and terminal",
            "figures": "numbers to pictures",
        },
    ),
    (
        "layers",
        {
            "nn": "drop-in layers",
            "huggingface": "trained models",
            "classical": "estimators",
            "continuum": "limits, manifolds",
            "models": "small networks",
            "interpret": "saliency, Jacobian",
            "data": "data sets",
            "testing": "contracts",
        },
    ),
    (
        "operator",
        {
            "attention": "P, never stored",
            "similarity": "β(q, k)",
            "mask": "who may see whom",
            "normalization": "scores to weights",
            "kernels": "how it is computed",
            "propagation": "P again and again",
            "functional": "attend, as SDPA",
        },
    ),
]
COLORS = {"light": ("#1f2933", "#5b6875", "#eef3f8", "#9fb3c8"), "dark": ("#e4e9ee", "#a9b6c2", "#22303c", "#5b7288")}
WIDTH, ROOM, ROW, GAP = 1040, 54, 84, 10


def drawing(scheme):
    ink, soft, fill, line = COLORS[scheme]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {ROW * len(ROWS)}" role="img" '
        'font-family="system-ui, sans-serif">',
        "<title>The rooms of Limelight, four rows; each uses the rows below it</title>",
    ]
    for i, (row, rooms) in enumerate(ROWS):
        top = i * ROW + 14
        width = (WIDTH - 80) / len(rooms) - GAP
        parts.append(f'<text x="0" y="{top + 32}" font-size="13" fill="{soft}">{row}</text>')
        for j, (name, words) in enumerate(rooms.items()):
            left = 80 + j * (width + GAP)
            middle = left + width / 2
            parts += [
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROOM}" rx="6" fill="{fill}" '
                f'stroke="{line}"/>',
                f'<text x="{middle:.1f}" y="{top + 23}" font-size="14" font-weight="600" text-anchor="middle" '
                f'fill="{ink}">{escape(name)}</text>',
                f'<text x="{middle:.1f}" y="{top + 42}" font-size="11" text-anchor="middle" fill="{soft}">'
                f"{escape(words)}</text>",
            ]
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    for scheme in COLORS:
        (IMAGES / f"rooms-{scheme}.svg").write_text(drawing(scheme), encoding="utf-8")

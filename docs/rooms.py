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
            "experiment": "trials and verdicts",
            "report": "HTML, terminal",
            "figures": "Plotly pictures",
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
            "mask": "who sees whom",
            "normalization": "scores to weights",
            "kernels": "how it is computed",
            "propagation": "P again and again",
            "functional": "attend, as SDPA",
        },
    ),
]
COLORS = {"light": ("#1f2933", "#5b6875", "#eef3f8", "#9fb3c8"), "dark": ("#e4e9ee", "#a9b6c2", "#22303c", "#5b7288")}
WIDTH, ACROSS, ROOM, HEADING, GAP = 520, 4, 50, 22, 10  # narrow, so that a phone shows it in a size that can be read


def drawing(scheme):
    ink, soft, fill, line = COLORS[scheme]
    parts, top = [], 0
    for row, rooms in ROWS:
        parts.append(f'<text x="0" y="{top + 15}" font-size="13" fill="{soft}">{row}</text>')
        top += HEADING
        for first in range(0, len(rooms), ACROSS):
            some = list(rooms.items())[first : first + ACROSS]
            width = (WIDTH + GAP) / len(some) - GAP
            for place, (name, words) in enumerate(some):
                left = place * (width + GAP)
                middle = left + width / 2
                parts += [
                    f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROOM}" rx="6" fill="{fill}" '
                    f'stroke="{line}"/>',
                    f'<text x="{middle:.1f}" y="{top + 21}" font-size="14" font-weight="600" text-anchor="middle" '
                    f'fill="{ink}">{escape(name)}</text>',
                    f'<text x="{middle:.1f}" y="{top + 39}" font-size="12" text-anchor="middle" fill="{soft}">'
                    f"{escape(words)}</text>",
                ]
            top += ROOM + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {WIDTH + 2} {top}" role="img" '
        'font-family="system-ui, sans-serif">\n'
        "<title>The rooms of Limelight in four rows; each uses the rows below it</title>"
    )
    return "\n".join([head, *parts, "</svg>\n"])


if __name__ == "__main__":
    for scheme in COLORS:
        (IMAGES / f"rooms-{scheme}.svg").write_text(drawing(scheme), encoding="utf-8")

"""Draw docs/images/packages-light.svg and packages-dark.svg, Limelight's packages in rows: `python docs/packages.py`.

The packages and their rows are those for which tests/test_imports.py checks the imports.
"""

from html import escape
from pathlib import Path

IMAGES = Path(__file__).with_name("images")
ROWS = [
    ("programs", {"cli": "the command line", "lab": "pages in the browser"}),
    (
        "results",
        {
            "claims": "tested statements",
            "experiment": "trials and verdicts",
            "report": "HTML, terminal",
            "figures": "Plotly figures",
        },
    ),
    (
        "layers",
        {
            "nn": "drop-in layers",
            "distributed": "sharded rows",
            "huggingface": "trained models",
            "classical": "estimators",
            "continuum": "limits, manifolds",
            "models": "small networks",
            "interpret": "saliency, Jacobian",
            "microscope": "heads of a model",
            "data": "data sets",
            "testing": "contract checks",
        },
    ),
    (
        "operator",
        {
            "attention": "P, never stored",
            "similarity": "β(q, k)",
            "mask": "which keys count",
            "normalization": "scores to weights",
            "kernels": "computing scores",
            "propagation": "repeated steps",
            "functional": "attend, like SDPA",
        },
    ),
]
COLORS = {"light": ("#1f2933", "#5b6875", "#eef3f8", "#9fb3c8"), "dark": ("#e4e9ee", "#a9b6c2", "#22303c", "#5b7288")}
WIDTH, ACROSS, HEIGHT, HEADING, GAP = 520, 4, 50, 22, 10  # narrow, so that the text is large enough on a phone


def drawing(scheme):
    ink, soft, fill, line = COLORS[scheme]
    parts, top = [], 0
    for row, packages in ROWS:
        parts.append(f'<text x="0" y="{top + 15}" font-size="13" fill="{soft}">{row}</text>')
        top += HEADING
        for first in range(0, len(packages), ACROSS):
            some = list(packages.items())[first : first + ACROSS]
            width = (WIDTH + GAP) / len(some) - GAP
            for place, (name, words) in enumerate(some):
                left = place * (width + GAP)
                middle = left + width / 2
                parts += [
                    f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="6" fill="{fill}" '
                    f'stroke="{line}"/>',
                    f'<text x="{middle:.1f}" y="{top + 21}" font-size="14" font-weight="600" text-anchor="middle" '
                    f'fill="{ink}">{escape(name)}</text>',
                    f'<text x="{middle:.1f}" y="{top + 39}" font-size="12" text-anchor="middle" fill="{soft}">'
                    f"{escape(words)}</text>",
                ]
            top += HEIGHT + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {WIDTH + 2} {top}" role="img" '
        'font-family="system-ui, sans-serif">\n'
        "<title>The packages of Limelight in four rows; each imports from the rows below it</title>"
    )
    return "\n".join([head, *parts, "</svg>\n"])


if __name__ == "__main__":
    for scheme in COLORS:
        (IMAGES / f"packages-{scheme}.svg").write_text(drawing(scheme), encoding="utf-8")

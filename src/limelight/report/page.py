"""The report: one self-contained HTML file with every verdict and the evidence for it.

The page sends no requests, which its content security policy enforces; the policy admits two scripts, by
their hashes. Text from claims and results is escaped. Plotly's script is stored compressed, and pictures
are drawn when they are scrolled into view.
"""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from limelight.experiment.claim import Picture
from limelight.experiment.machine import commit
from limelight.experiment.search import SEEDS, TunedClaim
from limelight.experiment.statistics import CONFIDENCE
from limelight.report import html
from limelight.report.csv import as_csv
from limelight.report.effect_text import (
    MARKS,
    describe_control,
    doubt_text,
    estimate_text,
    expectation,
    interval_text,
)
from limelight.report.entry import Entry
from limelight.report.forest_plot import bar
from limelight.report.plain_text import visible


def render(entries: Sequence[Entry]) -> str:
    """The report on these claims, as one HTML document."""
    figures: list[str] = []
    pictures = {}
    for entry in entries:
        shown = []
        for picture in [*entry.claim.figures(entry.results), *_search_pictures(entry)]:
            first = len(figures)
            figures += [figure.to_json() for figure in picture.figures]
            shown.append((picture.caption, [(i, _height(figures[i])) for i in range(first, len(figures))]))
        pictures[entry.claim.name] = shown
    script, plotly = html.text_of("report.js"), get_plotlyjs()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            entries=entries,
            pictures=pictures,
            figures=html.in_script(f"[{','.join(figures)}]"),
            plotly=html.packed(plotly.encode()),
            script=Markup(script),
            hashes=" ".join(f"'sha256-{html.sha256(code)}'" for code in (plotly, script)),
            style=Markup(html.text_of("report.css")),
            confidence=f"{CONFIDENCE:.0%}",
            made=html.timestamp(),
            versions={**html.package_versions(), "system": platform.system()},
            commit=commit(),
        )
    )


def _search_pictures(entry: Entry) -> list[Picture]:
    if not entry.search or not isinstance(entry.claim, TunedClaim):
        return []
    from limelight.report.sensitivity import sensitivity  # here, since figures load torch, which takes seconds

    caption = (
        f"How each arm was tuned: every arm tried the same learning rates on {SEEDS} other seeds. The median score by "
        "rate; the larger dot is the rate that the arm has."
    )
    return [Picture(caption, sensitivity(entry.claim, entry.search))]


@cache
def _environment() -> Environment:
    environment = html.environment("limelight.report", finalize=_legible)
    environment.filters |= {
        "estimate": estimate_text,
        "interval": interval_text,
        "doubt": doubt_text,
        "csv": _csv_link,
        "bar": bar,
        "expectation": expectation,
        "describe_control": describe_control,
    }
    environment.globals["marks"] = MARKS
    return environment


def _csv_link(entry: Entry) -> str:
    """The claim's values as a link that downloads them, so that the page needs no other file."""
    return "data:text/csv;base64," + base64.b64encode(as_csv(entry.results).encode()).decode()


def _legible(value: object) -> object:
    """Text with control characters and halves of surrogate pairs, which UTF-8 cannot encode, shown as escapes."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _height(figure: str) -> int:
    return int(json.loads(figure)["layout"]["height"])

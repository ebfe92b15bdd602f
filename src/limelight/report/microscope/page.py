"""What was measured inside a model, as one self-contained HTML file.

It sends no requests, which its content security policy enforces; the policy admits one script, by its hash. Of each
head's map the strongest keys of each query are stored, not the matrix: a weight is one byte (in steps of 1/255), a key
two, and all of it is compressed. Text from the model is escaped, and control characters are shown as escapes.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from jinja2 import Environment
from markupsafe import Markup
from torch import Tensor

from limelight.experiment.statistics import CONFIDENCE
from limelight.microscope.comparing import Comparison, Difference
from limelight.microscope.picture import Picture
from limelight.microscope.reading import Reading
from limelight.microscope.watched_attention import WatchedAttention
from limelight.report import html
from limelight.report.effect_text import number
from limelight.report.microscope.summary import sentences
from limelight.report.plain_text import visible
from limelight.what_if.over_texts import OverTexts, Spread

_PACKAGE = "limelight.report.microscope"
_LINKS = 600_000  # in all: fewer keys of each query are stored for a longer text
_MOST_KEYS, _MOST_PATCHES = 8, 32  # keys of each query; over a picture more of them are seen


def render(reading: Reading, comparison: Comparison | None = None, over: OverTexts | None = None) -> str:
    """The page, as one HTML document.

    With a comparison it has a section with the difference of each measure. Over several texts it has their means and
    intervals, and the maps of the first one. Of a picture it has the picture, with the maps drawn over it.
    """
    script, (first, *rest) = html.text_of("page.js", _PACKAGE), sentences(reading, over)
    layers, count, whole = reading.layers, _keys(reading), _others(reading)
    packed = b"".join(part for P in layers for part in (*_maps(P, count), *_whole_rows(P, whole)))
    data = {
        "texts": [[visible(token) for token in text] for text in reading.texts],
        "layers": [_layer(reading, P) for P in layers],
        "measures": [
            {"name": m.name, "equation": m.equation, "range": m.range, "meaning": m.meaning, "source": m.source}
            for m in reading.measures
        ],
        "values": {m.name: [_number(x) for x in reading.table[m.name]] for m in reading.measures},
        "keys": count,
        "differences": None if comparison is None else _differences(comparison),
        "over": None if over is None else _over(over),
        "picture": None if reading.picture is None else _picture(reading.picture, whole),
    }
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            model=visible(reading.model),
            first=visible(first),
            rest=[visible(sentence) for sentence in rest],
            not_watched=[visible(name) for name in reading.scope.not_watched],
            tokens=max(len(text) for text in reading.texts),
            keys=count,
            other=None if comparison is None else visible(comparison.second.model),
            picture=reading.picture,
            over=over,
            differences=[] if comparison is None else [_row(one) for one in comparison.differences()],
            data=html.in_script(json.dumps(data, allow_nan=False, separators=(",", ":"))),
            packed=html.packed(packed),
            script=Markup(script),
            hash=html.sha256(script),
            style=Markup(html.text_of("report.css") + html.text_of("page.css", _PACKAGE)),
            made=html.timestamp(),
            versions=html.package_versions(),
        )
    )


def _differences(comparison: Comparison) -> dict[str, list[float | None]]:
    table = comparison.table
    return {name: [_number(x) for x in table[name]] for name in table.measures}


def _row(one: Difference) -> dict[str, str]:
    """The cells of a row of the comparison."""
    return {
        "measure": one.measure.replace("_", " "),
        "means": f"{number(one.mean)} → {number(one.other_mean)}",
        "place": "none" if one.value == one.other else f"{one.layer}.{one.head}",
        "values": "" if one.value == one.other else f"{number(one.value)} → {number(one.other)}",
    }


def _over(over: OverTexts) -> dict[str, Any]:
    """The texts, and of each measure and head: (low, high, least, least in, most, most in), or None."""

    def numbers(one: Spread | None) -> list[Any] | None:
        found = None if one is None else (one.low, one.high, one.least, one.least_in, one.most, one.most_in)
        return None if found is None else [x if isinstance(x, int) else _number(x) for x in found]

    spreads = {name: [numbers(one) for one in over.spread(name)] for name in over.measures}
    return {"texts": [visible(text) for text in over.texts], "spreads": spreads, "confidence": f"{CONFIDENCE:.0%}"}


def _picture(picture: Picture, others: int) -> dict[str, Any]:
    """The pixels as a PNG, the grid of patches, and the number of tokens before them that are no patches."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture.pixels.numpy()).save(file, "PNG", optimize=True)
    return {
        "url": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
        "width": picture.pixels.shape[1], "height": picture.pixels.shape[0],
        "rows": picture.rows, "columns": picture.columns, "others": others,
    }  # fmt: skip


def _others(reading: Reading) -> int:
    """How many tokens of a picture are no patches, as the class token; 0 for a text."""
    if reading.picture is None:
        return 0
    return len(reading.texts[0]) - reading.picture.rows * reading.picture.columns


def _keys(reading: Reading) -> int:
    """How many keys are stored for each query: as many as fit into the page, at least one."""
    queries = sum(P.shape[0] * P.shape[1] for P in reading.layers)
    most = _MOST_KEYS if reading.picture is None else _MOST_PATCHES
    return max(1, min(most, _LINKS // max(1, queries)))


def _layer(reading: Reading, P: WatchedAttention) -> dict[str, Any]:
    assert P.place is not None
    queries, keys = reading.sides(P)
    starts = 0 if P.positions is None else int(P.positions[0])
    return {
        "name": visible(P.place.name), "kind": visible(P.place.kind), "heads": P.shape[0], "n": P.shape[1],
        "m": P.shape[2], "queries": queries, "keys": keys, "starts": starts, "cross": P.is_cross,
    }  # fmt: skip


@torch.no_grad()
def _maps(P: WatchedAttention, count: int) -> Iterator[bytes]:
    """For each head: the keys (n, count) as two bytes, their weights as one, and each key's share of the most mass."""
    found = P.topk(min(count, P.shape[-1]))
    missing = count - found.keys.shape[-1]
    keys = torch.nn.functional.pad(found.keys, (0, missing), value=-1).remainder(1 << 16)
    weights = _bytes(torch.nn.functional.pad(found.weights, (0, missing)))
    mass = P.column_mass()
    mass = _bytes(mass / mass.amax(-1, keepdim=True).clamp(min=1e-30))
    for head in range(P.shape[0]):
        yield (keys[head] % 256).to(torch.uint8).cpu().numpy().tobytes()
        yield (keys[head] // 256).to(torch.uint8).cpu().numpy().tobytes()
        yield weights[head].numpy().tobytes()
        yield mass[head].numpy().tobytes()


@torch.no_grad()
def _whole_rows(P: WatchedAttention, count: int) -> Iterator[bytes]:
    """For each head what the first queries, which are no patches, give the patches; 1 is the most that one gets."""
    if count:
        rows = P.block(slice(0, count))[..., count:]
        yield from (own.numpy().tobytes() for own in _bytes(rows / rows.amax(-1, keepdim=True).clamp(min=1e-30)))


def _bytes(shares: Tensor) -> Tensor:
    """Numbers in [0, 1] in steps of 1/255."""
    return (shares.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def _number(x: float) -> float | None:
    return float(f"{x:.4g}") if math.isfinite(x) else None


@cache
def _environment() -> Environment:
    return html.environment(_PACKAGE)

"""Images with the predictions of networks: the digit that each network predicts, and the pixels that it relies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Contour, Figure, Heatmap, Scatter

from limelight.figures.theme import COLORS, GRAYS, NEUTRAL, SCALE, styled

RIGHT, WRONG = "#009E73", "#D55E00"
_GAP = 2  # pixels between two images


def prediction_grid(
    images: np.ndarray, truth: Sequence[int], predicted: Mapping[str, Sequence[int]], chosen: int, rows: int = 2
) -> Figure:
    """Gray images (n, h, w) in rows, and below each its digit and each network's prediction, with ✓ or ✗.

    The traces are, for each row, its images and its predictions, whose texts are those of `answer_texts`. The image
    `chosen` is framed. The `customdata` of each point is the index of its image.
    """
    images = np.asarray(images)
    across = -(-len(images) // rows)
    height, width = images.shape[1:]
    pitch = width + _GAP
    figure = Figure()
    listed = answer_texts(truth, predicted, rows)
    lines = len(predicted) + 1
    for row in range(rows):
        at = range(row * across, min((row + 1) * across, len(images)))
        strip, whose = _strip(images[at.start : at.stop], at)
        axes = [f"y{2 * row + 1}" if row else "y", f"y{2 * row + 2}"]
        figure.add_trace(
            Heatmap(z=strip, customdata=whose, colorscale=GRAYS, zmin=0, zmax=1, showscale=False, hoverinfo="none",
                    yaxis=axes[0])
        )  # fmt: skip
        figure.add_trace(
            Scatter(
                x=np.repeat(np.arange(len(at)) * pitch + (width - 1) / 2, lines), y=list(range(lines)) * len(at),
                customdata=np.repeat(at, lines), mode="text", showlegend=False, hoverinfo="none", yaxis=axes[1],
                **listed[row],
            )
        )  # fmt: skip
    _lay_out(figure, list(predicted), rows, across * pitch - _GAP)
    row, column = divmod(chosen, across)
    x, y = column * pitch - 0.5, -0.5
    figure.add_shape(
        type="rect", x0=x - 0.5, x1=x + width + 0.5, y0=y - 0.5, y1=y + height + 0.5, xref="x",
        yref=f"y{2 * row + 1}" if row else "y", line={"color": COLORS[0], "width": 2.5},
    )  # fmt: skip
    return figure


def answer_texts(
    truth: Sequence[int], predicted: Mapping[str, Sequence[int]], rows: int = 2
) -> list[dict[str, object]]:
    """The texts below the images of each row, as attributes of a trace: the digit, and each network's prediction."""
    texts, colors = [], []
    for i, digit in enumerate(truth):
        texts.append(f"{digit}")
        colors.append(NEUTRAL)
        for found in predicted.values():
            right = found[i] == digit
            texts.append(f"{found[i]} {'✓' if right else '✗'}")
            colors.append(RIGHT if right else WRONG)
    across = -(-len(truth) // rows) * (len(predicted) + 1)
    parts = [slice(row * across, (row + 1) * across) for row in range(rows)]
    return [{"text": texts[part], "textfont": {"color": colors[part]}} for part in parts]


def _strip(images: np.ndarray, at: range) -> tuple[np.ndarray, np.ndarray]:
    """The images side by side with gaps between them, and for each pixel the index of its image."""
    padded = np.pad(images.astype(float), ((0, 0), (0, 0), (0, _GAP)), constant_values=np.nan)
    whose = np.broadcast_to(np.array(at)[:, None, None], padded.shape)
    return tuple(np.concatenate(list(part), axis=1)[:, :-_GAP] for part in (padded, whose))  # type: ignore[return-value]


def _lay_out(figure: Figure, names: Sequence[str], rows: int, width: int) -> None:
    """Set the axes: one x axis, and for each row a y axis of its images, with square pixels, and one of its texts."""
    styled(figure, 400, showlegend=False, dragmode=False)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 6, "b": 4})
    figure.update_xaxes(visible=False, range=[-1.5, width + 0.5], constrain="domain", fixedrange=True)
    share = 1 / rows
    for row in range(rows):
        top = 1 - row * share
        middle = top - 0.47 * share
        shared = {"fixedrange": True, "showgrid": False, "zeroline": False, "automargin": True, "anchor": "x"}
        image = {
            **shared, "visible": False, "domain": [middle, top], "scaleanchor": "x", "constrain": "domain",
            "constraintoward": "bottom", "autorange": "reversed",
        }  # fmt: skip
        predicted = {
            **shared, "domain": [top - 0.97 * share, middle], "range": [len(names) + 0.5, -0.5], "ticklen": 0,
            "showline": False, "tickvals": list(range(len(names) + 1)), "ticktext": ["digit", *names],
        }  # fmt: skip
        figure.update_layout({f"yaxis{2 * row + 1}" if row else "yaxis": image, f"yaxis{2 * row + 2}": predicted})


def saliency_overlay(image: np.ndarray, weights: np.ndarray, value: str) -> Figure:
    """Weights (a, b) as colors over an image (h, w), whose strokes are drawn as a contour line.

    The number of rows a must divide h, and b must divide w. The traces are the weights and the line. The color scale
    goes from zero to the largest weight.
    """
    image, weights = np.asarray(image), np.asarray(weights)
    (height, width), (rows, columns) = image.shape, weights.shape
    if height % rows or width % columns:
        raise ValueError(f"expected weights whose shape divides that of the image, got {weights.shape}, {image.shape}")
    dy, dx = height // rows, width // columns
    figure = Figure()
    figure.add_trace(
        Heatmap(
            z=weights, y0=(dy - 1) / 2, dy=dy, x0=(dx - 1) / 2, dx=dx, zmin=0, zmax=float(weights.max()),
            colorscale=SCALE, showscale=False, hovertemplate=f"{value} %{{z:.3g}}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        Contour(
            z=image, contours={"start": 0.5, "end": 0.5, "size": 1, "coloring": "none"}, showscale=False,
            line={"color": NEUTRAL, "width": 2}, hoverinfo="skip",
        )
    )  # fmt: skip
    styled(figure, 220, dragmode=False).update_layout(margin={"l": 2, "r": 2, "t": 2, "b": 2})
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain", fixedrange=True)
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5], scaleanchor="x", constrain="domain", fixedrange=True)
    return figure

"""Images with a line of text below each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly.graph_objects import Figure, Heatmap, Scatter

from limelight.figures.predictions import RIGHT, WRONG
from limelight.figures.theme import GRAYS, styled

_GAP, _BELOW = 6, 5  # pixels between two images, and those below an image, where its text stands


def captioned_images(
    images: np.ndarray | None, captions: Sequence[str], right: Sequence[bool], title: str, across: int = 4
) -> Figure:
    """Gray images (n, h, w) in rows of `across`, each with its caption below: ✓ in green if it is right, ✗ if not.

    A figure without images, for results that kept none, is empty. Raises `ValueError` unless there is a caption for
    each image, and for each whether it is right.
    """
    given = np.zeros((0, 1, 1)) if images is None else np.asarray(images, dtype=float)
    if not len(given) == len(captions) == len(right):
        raise ValueError(f"{len(given)} images have {len(captions)} captions and {len(right)} marks; give one for each")
    height, width = given.shape[1:]
    rows = -(-len(given) // across)
    down, over = height + _BELOW, width + _GAP
    canvas = np.full((rows * down, across * over), np.nan)
    for i, image in enumerate(given):
        row, column = divmod(i, across)
        canvas[row * down : row * down + height, column * over + _GAP // 2 :][:, :width] = image
    at = [divmod(i, across) for i in range(len(given))]
    figure = Figure(Heatmap(z=canvas, colorscale=GRAYS, zmin=0, zmax=1, showscale=False, hoverinfo="skip"))
    figure.add_trace(
        Scatter(
            x=[column * over + (over - 1) / 2 for _, column in at],
            y=[row * down + height + 1 for row, _ in at],
            text=[f"{caption} {'✓' if good else '✗'}" for caption, good in zip(captions, right, strict=True)],
            textfont={"color": [RIGHT if good else WRONG for good in right], "size": 12},
            mode="text", showlegend=False, hoverinfo="skip",
        )
    )  # fmt: skip
    styled(figure, 60 + 150 * max(rows, 1), title).update_layout(margin={"l": 8, "r": 8, "b": 8})
    figure.update_xaxes(visible=False, range=[-0.5, across * over - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[rows * down - 0.5, -0.5], scaleanchor="x", constrain="domain")
    return figure

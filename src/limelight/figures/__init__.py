"""Pictures: pure functions from numbers to Plotly figures, used by reports, notebooks and the lab.

No figure sets a background or a text color, so that a page may be light or dark. Needs the extra `claims`.
"""

from limelight.errors import MissingExtraError, how_to_install

try:
    import plotly  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(
        f"limelight.figures needs {missing.name}, which is not installed; {how_to_install('claims')}"
    ) from missing

from limelight.figures.boxes import boxed_images, map_grid
from limelight.figures.captions import captioned_images
from limelight.figures.dots import strip_plot
from limelight.figures.fields import drift
from limelight.figures.grids import hues, image_rows, image_tables, images, matrices, signed_images
from limelight.figures.heads import changed_bars, head_grid, heads_by, token_map
from limelight.figures.learning import accuracies
from limelight.figures.lines import curves, stacked_area
from limelight.figures.pairs import before_and_after, dot_rows, scatter
from limelight.figures.plane import PlaneScene, bars, chosen_row, plane
from limelight.figures.point_panels import point_panels
from limelight.figures.points import animated_scatter
from limelight.figures.predictions import prediction_grid, saliency_overlay
from limelight.figures.spheres import spheres
from limelight.figures.surfaces import surface, surfaces
from limelight.figures.theme import PHOTOGRAPH

__all__ = [
    "PHOTOGRAPH",
    "PlaneScene",
    "accuracies",
    "animated_scatter",
    "bars",
    "before_and_after",
    "boxed_images",
    "captioned_images",
    "changed_bars",
    "chosen_row",
    "curves",
    "dot_rows",
    "drift",
    "head_grid",
    "heads_by",
    "hues",
    "image_rows",
    "image_tables",
    "images",
    "map_grid",
    "matrices",
    "plane",
    "point_panels",
    "prediction_grid",
    "saliency_overlay",
    "scatter",
    "signed_images",
    "spheres",
    "stacked_area",
    "strip_plot",
    "surface",
    "surfaces",
    "token_map",
]

"""Pictures: pure functions from numbers to Plotly figures, alike for reports, notebooks and the lab.

No figure has a background or a text colour of its own, so that a page may be light or dark.
"""

from limelight.figures.dots import comparison, strips
from limelight.figures.grids import images, matrices
from limelight.figures.lines import curves, shares
from limelight.figures.surfaces import surfaces

__all__ = ["comparison", "curves", "images", "matrices", "shares", "strips", "surfaces"]

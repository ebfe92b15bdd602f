"""Experiments that test claims: arms, seeds, measures, and a judgment that is written before any result is seen.

Needs the extra `claims`.
"""

from limelight.errors import require

require(
    "claims", "limelight.experiment", "scipy", "sklearn", "joblib", "plotly", "jinja2", "rich", "psutil", "safetensors"
)

"""Write the table of methods: `python docs/methods.py`."""

from pathlib import Path

from limelight.classical.methods import METHODS
from limelight.classical.table import page

if __name__ == "__main__":
    Path(__file__).with_name("methods.md").write_text(page(METHODS))

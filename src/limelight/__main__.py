"""The entry point of the command line. It starts with the library alone, and says which extra is missing."""

from __future__ import annotations

import atexit
import gc
import sys

from limelight.errors import MissingExtraError, require


def main() -> None:
    """Run `limelight`. If the extra `claims` is not installed, print how to install it."""
    try:
        require("claims", "the command line", "typer")
        from limelight.cli import app
    except MissingExtraError as missing:
        sys.exit(f"limelight: {missing}")
    atexit.register(gc.freeze)  # otherwise Python would search a million objects for garbage at its end
    app()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # otherwise `python -m` would import a torch.py in the current folder
    main()

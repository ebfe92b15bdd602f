"""The command line's front door: it opens with the library alone, and says what is missing."""

from __future__ import annotations

import atexit
import gc
import sys

from limelight.errors import MissingExtraError, require


def main() -> None:
    """Run `limelight`; without the extra that claims need, say how to get it."""
    try:
        require("claims", "the command line", "typer")
        from limelight.cli import app
    except MissingExtraError as missing:
        sys.exit(f"limelight: {missing}")
    atexit.register(gc.freeze)  # all is to end: else Python looks through a million objects for what could be freed
    app()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, in which `python -m` would look for torch
    main()

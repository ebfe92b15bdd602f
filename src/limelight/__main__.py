"""The command line's front door: it opens with the library alone, and says what is missing."""

from __future__ import annotations

import sys

from limelight.errors import MissingExtraError, require


def main() -> None:
    """Run `limelight`; without the extra that claims need, say how to get it."""
    try:
        require("claims", "the command line", "typer")
        from limelight.cli import app
    except MissingExtraError as missing:
        sys.exit(f"limelight: {missing}")
    app()


if __name__ == "__main__":
    main()

"""What the self-contained pages share: their templates, the hashes of their scripts, and what stands in a script."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

import limelight
from limelight.experiment.fingerprint import versions

_PACKAGE = "limelight.report"


def environment(package: str, finalize: Callable[[object], object] | None = None) -> Environment:
    """The templates of a package, in which text is escaped and a name without a value is an error."""
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def text_of(name: str, package: str = _PACKAGE) -> str:
    """The text of a file in a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def sha256(code: str) -> str:
    """The hash by which a page's content security policy admits a script."""
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def in_script(data: str) -> Markup:
    """JSON as it may stand in a script element, which `</script>` within a text must not end."""
    return Markup(data.replace("<", "\\u003c"))


def packed(data: bytes) -> str:
    """The data compressed, as text."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def timestamp() -> str:
    """The present time, for the foot of a page."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def package_versions() -> dict[str, str]:
    """The versions for the foot of a page."""
    return {"limelight": limelight.__version__, **versions()}

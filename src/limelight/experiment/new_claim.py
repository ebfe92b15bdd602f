"""A first file for a claim of one's own: a copy of `claim_template.py`, which runs as it is."""

from __future__ import annotations

import keyword
from importlib.resources import files
from pathlib import Path

from limelight.errors import InputError, StoreError
from limelight.experiment import catalog
from limelight.experiment.claim_class import is_claim_name
from limelight.experiment.claim_file import require_free

_TEMPLATE = "claim_template"


def write(name: str, folder: Path) -> Path:
    """Write `name.py` into the folder and return its path.

    Raises `InputError` for a name that no claim or no Python module may have, or that is taken, and for a file that
    exists; `StoreError` where the folder cannot be written.
    """
    if not is_claim_name(name) or keyword.iskeyword(name):
        raise InputError(
            f"expected a name for a claim and its Python file, of letters, digits and underscores, such as long_keys; "
            f"got {name!r}"
        )
    if name in catalog.names():
        raise InputError(f"there is a claim named {name!r} already (`limelight show {name}`); take another name")
    path = folder.absolute() / f"{name}.py"
    if path.exists():
        raise InputError(f"there is a file {path} already, which is left as it is; take another name")
    require_free(name, path)
    text = files("limelight.experiment").joinpath(f"{_TEMPLATE}.py").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace(f'"{_TEMPLATE}"', f'"{name}"'))
    except OSError as problem:
        raise StoreError(f"cannot write {path} ({problem.strerror})") from None
    return path

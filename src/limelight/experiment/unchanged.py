"""Whether anything has changed that the verdict on a claim depends on, told by sizes and times of files alone.

A verdict is a function of the claim's result files, the code of Limelight, Python and the installed packages. To judge
again takes seconds: torch and the claim are imported, the code is parsed to name the results, and thousands of numbers
are resampled. To see that nothing has changed takes one look at each file. So a summary of a claim is kept with a text
for this state, and counts while the text is the same (`limelight.experiment.index`).

Only claims that come with Limelight have a state. Those of other packages and of files may depend on any code.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
import time
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import limelight
from limelight.experiment.index import is_settled

_SETTLED_CODE = 60  # seconds since its last change after which code is surely the code that this process has imported


def state(results: Path, claim: str) -> str | None:
    """A text that changes with everything that the verdict on a claim depends on.

    None if a file or the code has just been changed, so that it could change again without a change of its times, and
    where files cannot be seen.
    """
    code, folder = _code(), results / claim
    if code is None or not os.path.lexists(folder):
        return code
    found = _files_in(folder)
    return None if found is None else _digest(f"{code} {found}")


def _files_in(folder: Path) -> str | None:
    """A text that changes with the names, sizes and times of a folder's files, in the order in which it lists them.

    None if one of them has just been changed, is no file or cannot be seen. A study has a hundred thousand files, so
    their numbers are gathered in one array, without an object for each.
    """
    names: list[str] = []
    numbers = array("q")  # of each file its size, and two times in nanoseconds
    try:
        with os.scandir(folder) as files:
            for file in files:
                found = file.stat()
                if not stat.S_ISREG(found.st_mode):
                    return None
                names.append(file.name)
                numbers.extend((found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    except OSError:
        return None
    newest = max((*numbers[1::3], *numbers[2::3]), default=0)
    if not is_settled((0, newest, newest)):
        return None
    return hashlib.sha256("/".join(names).encode(errors="surrogateescape") + numbers.tobytes()).hexdigest()


@cache
def _code() -> str | None:
    """The state of Limelight's own files, of the packages that are installed, and of Python."""
    found = [*_stamps_below(str(Path(limelight.__file__).parent)), *_stamps_of_packages()]
    if any(time.time_ns() - newest < _SETTLED_CODE * 10**9 for _, _, newest in found):
        return None
    return _digest(f"{sys.version} {platform.machine()} {sys.flags} {sorted(found)}")


def _stamps_below(folder: str) -> Iterator[tuple[str, int, int]]:
    for place, folders, files in os.walk(folder):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        for name in files:
            yield _stamp(os.path.join(place, name))


def _stamps_of_packages() -> Iterator[tuple[str, int, int]]:
    """Those of the folders in which pip notes what it has installed, which another version or copy replaces."""
    for place in filter(os.path.isdir, sys.path):
        for name in os.listdir(place):
            if name.endswith((".dist-info", ".egg-info", ".pth")):
                yield _stamp(os.path.join(place, name))


def _stamp(path: str) -> tuple[str, int, int]:
    found = os.stat(path)
    return path, found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

"""Standard output and error on any terminal, pipe or file: no traceback for a poor encoding or a full disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from limelight.report.plain_text import SPELL

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EINVAL}


@contextmanager
def prepared(cannot_write: int) -> Iterator[None]:
    """Within the block, characters that the streams' encodings lack are spelled out in ASCII.

    If standard output cannot be written, print so on standard error and exit with the code `cannot_write`. If the
    reader of a pipe has ended, as in `limelight list | head -1`, exit with code 1 without a message, as other programs
    do.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=SPELL)
    try:
        yield
    except BrokenPipeError:
        _abandon(sys.stdout)
        raise SystemExit(1) from None
    except OSError as problem:
        if problem.errno not in _UNWRITABLE or problem.filename is not None:
            raise
        _abandon(sys.stdout)
        with suppress(OSError):
            print(f"limelight: cannot write the output ({problem.strerror})", file=sys.stderr, flush=True)
        raise SystemExit(cannot_write) from None
    finally:
        try:
            if sys.stderr is not None:  # it is None where the shell closed it
                sys.stderr.flush()
        except OSError:
            _abandon(sys.stderr)


def _abandon(stream: TextIO | None) -> None:
    """Redirect the rest of the stream to the null device, so that Python's flush at exit does not fail again."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()  # type: ignore[union-attr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)

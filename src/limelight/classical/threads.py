"""One thread of BLAS for many small operations."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """A context in which NumPy's and SciPy's linear algebra runs on one thread, as does everything beside it."""
    # To share an operation of a few microseconds among threads costs more than it gains. Where other programs use the
    # processors, too, each of thousands of such operations waits until the last thread has had its turn.
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # it looks for libraries among all that are loaded, which takes a millisecond

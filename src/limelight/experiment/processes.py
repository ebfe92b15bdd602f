"""Ending processes: a worker ends with the process that started it, and with its own children, on every system.

A process that is ended by force tells nobody, so whoever depends on it looks after it: a worker ends itself once the
process that it works for is gone. Nothing here needs a signal that some systems lack.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import psutil

_LOOK = 0.5  # seconds between two looks at a process that is needed
_PATIENCE = 3.0  # seconds for ended processes to be gone
_STOPS = ("SIGTERM", "SIGHUP")  # those of them that there are here


@contextlib.contextmanager
def stopping_like_ctrl_c() -> Iterator[None]:
    """Within the block, what asks this process to end raises `KeyboardInterrupt` in its main thread, as Ctrl-C does.

    A signal that is ignored already stays so, as `nohup` wishes. Outside the main thread, where Python allows no
    handler, the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _stops()}
    heeded = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in heeded:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


def _stops() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _STOPS if hasattr(signal, name)]


def _interrupt(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # asked once is enough: what is being put in order is not to be disturbed
    raise KeyboardInterrupt


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within the block, Ctrl-C and what `stopping_like_ctrl_c` heeds wait; they interrupt at the end of the block."""
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # else Python interrupts nothing here
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *_stops())}
        before = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def without_current_folder() -> Iterator[None]:
    """Processes of Python that are started within the block do not look for modules in the current folder.

    Else a `torch.py` that happens to lie there would be imported in place of torch.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = before


def work_for(number: int) -> None:
    """Make this process a worker of another: it ends once that one is gone, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(number,), daemon=True).start()


def _end_with(number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        needed = psutil.Process(number)
        while needed.is_running() and needed.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_LOOK)
    psutil.Process().kill()  # the main thread is in the middle of something, and nobody waits for it


def end_tree(number: int) -> None:
    """End a process and all that it has started, by force."""
    try:
        root = psutil.Process(number)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=_PATIENCE)

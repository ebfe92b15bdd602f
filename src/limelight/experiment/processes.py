"""Ending processes: a worker ends when the process that started it ends, on every operating system.

A process that is killed cannot stop its workers. So each worker checks again and again whether the process that it
works for still runs, and ends itself if not. Nothing here needs a signal that some systems lack.
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

_INTERVAL = 0.5  # seconds between two checks whether the other process still runs
_PATIENCE = 3.0  # seconds to wait until killed processes have ended
_STOPS = ("SIGTERM", "SIGHUP")  # Windows lacks the second


@contextlib.contextmanager
def stopping_like_ctrl_c() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise `KeyboardInterrupt` in the main thread, as Ctrl-C does.

    A signal that the process ignores stays ignored, as under `nohup`. Outside the main thread, where Python allows no
    signal handler, the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _stops()}
    replaced = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])


def _stops() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _STOPS if hasattr(signal, name)]


def _interrupt(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleaning up
    raise KeyboardInterrupt


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP wait: they raise `KeyboardInterrupt` at its end."""
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
    """Python processes that are started within the block do not look for modules in the current folder.

    Otherwise a file `torch.py` in that folder would be imported in place of torch.
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
    """Make this process a worker of the process with this id: it ends when that one has ended, and ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(number,), daemon=True).start()


def _end_with(number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        needed = psutil.Process(number)
        while needed.is_running() and needed.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_INTERVAL)
    psutil.Process().kill()  # at once, since nobody needs what the main thread is computing


def end_tree(number: int) -> None:
    """Kill a process and all processes that it has started."""
    try:
        root = psutil.Process(number)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=_PATIENCE)

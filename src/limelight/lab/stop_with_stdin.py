"""The command `limelight`, which stops, as after Ctrl-C, when its standard input is closed.

A run that the lab has started therefore ends when the lab closes the pipe and when the lab itself ends, even if it was
killed. The lab sends no signal, since not every system has them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from limelight.__main__ import main


def interrupt_at_end_of_stdin() -> None:
    """Start a thread that interrupts the main thread when standard input ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set SIGINT to be ignored
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), daemon=True).start()


def _watch(number: int) -> None:
    while os.read(number, 1024):  # not `sys.stdin`, whose lock Python needs when it exits
        pass
    signal.raise_signal(signal.SIGINT)  # Python handles it in its main thread


if __name__ == "__main__":
    interrupt_at_end_of_stdin()
    main()

"""`limelight` for as long as somebody attends to it: it stops as by Ctrl-C once its standard input is closed.

So a run that the lab has started ends when it is asked to, and when the lab is gone, however that went; and no signal is
needed, which not every system has.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading

from limelight.__main__ import main


def attend() -> None:
    """From now on, the main thread is interrupted when standard input ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has started all this with it ignored
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), daemon=True).start()


def _watch(number: int) -> None:
    while os.read(number, 1024):  # and not by `sys.stdin`, whose lock Python wants when it ends
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    attend()
    main()

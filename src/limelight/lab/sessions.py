"""One worker process for each visitor and page.

Workers are forked from a process that has loaded torch, and end when their page is closed. The worker of a page that
is open but hidden waits, and ends after ten minutes, or when a lab that is full needs its place for another visitor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from limelight.experiment.processes import without_current_folder
from limelight.lab.worker import main

_QUIET = 8.0  # seconds for which the worker of a disconnected page is kept, in case the page connects again
_HIDDEN = 600.0  # seconds in which an open page requests no frame, because it is hidden, before its worker is ended
_GONE = 120.0  # the same limit while a request is pending, since the worker may be slow
_LOOK = 1.0  # seconds between two searches for idle sessions
_FORKS = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows, where each worker loads torch anew
_CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
_BREATH = 1.0  # seconds between two checks that a worker without an answer is alive


def key_of(given: Any) -> str:
    """The validated key of a page. Raises `ValueError` or `TypeError` if it is not a UUID."""
    return str(uuid.UUID(given))


def warm() -> None:
    """Start the process that workers are forked from, so that the first visitor does not wait for it."""
    if _FORKS:
        from multiprocessing import forkserver  # Windows does not have it

        _CONTEXT.set_forkserver_preload(["limelight.lab.preload"])
        with without_current_folder():
            forkserver.ensure_running()


class FullError(Exception):
    """The largest allowed number of sessions is open already."""


class Session:
    """A worker and the pipe to it. Messages may be sent from any thread, even before the worker has started."""

    def __init__(self, module: str, values: dict[str, Any]) -> None:
        self.module = module
        self.last_message = self.seen = time.monotonic()  # of the last message, and of the last frame
        self._connection, self._theirs = _CONTEXT.Pipe()
        self._sending, self._asking, self._starting = threading.Lock(), threading.Lock(), threading.Lock()
        self._process = _CONTEXT.Process(target=main, args=(self._theirs, module, values), daemon=True)

    def start(self) -> None:
        """Fork the worker unless it has been forked. The first fork waits until the modules of workers are loaded."""
        with self._starting:
            if self._process.pid is None and not self._theirs.closed:
                with without_current_folder():
                    self._process.start()
                self._theirs.close()

    def send(self, do: str, **more: Any) -> None:
        self.last_message = time.monotonic()
        with self._sending:
            self._connection.send_bytes(json.dumps({"do": do, **more}).encode())

    def frame(self, after: int) -> str:
        """Wait for a frame newer than `after`, as JSON. Raises `OSError` or `EOFError` if the worker died."""
        self.start()
        with self._asking:
            self.send("frame", after=after)
            while not self._connection.poll(_BREATH):  # on a busy machine an answer may take long
                if not self.alive:
                    raise EOFError("the worker has ended")
            answer = self._connection.recv_bytes().decode()
        self.last_message = self.seen = time.monotonic()
        return answer

    @property
    def is_answering(self) -> bool:
        """True while a request for a frame is pending."""
        return self._asking.locked() or self._starting.locked()

    def is_idle(self, now: float, connected: bool = False) -> bool:
        """True if the worker is to be ended: its page is gone or, if it is still connected, has long been hidden."""
        if self.is_answering:
            return now - self.last_message > _GONE
        return now - self.seen > _HIDDEN if connected else now - self.last_message > _QUIET

    @property
    def alive(self) -> bool:
        return self._process.pid is None or bool(self._process.is_alive())

    def end(self) -> None:
        with self._starting:
            self._theirs.close()  # so that the worker is never started
        if self._process.pid is not None:
            self._process.terminate()
            self._process.join(1)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        with self._asking:
            self._connection.close()


class Sessions:
    """All sessions, by the key that a page receives when it is opened."""

    def __init__(self, most: int = 32) -> None:
        self.most = most
        self._open: dict[str, Session] = {}
        self._connected: Counter[str] = Counter()  # open connections of each page
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=most, thread_name_prefix="frames")
        self._reaper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def send(self, key: str, do: str, **more: Any) -> None:
        """Send a message to the session of this key, if it exists and its worker lives."""
        session = self._open.get(key)
        if session is not None:
            with contextlib.suppress(OSError):
                session.send(do, **more)

    def __contains__(self, key: str) -> bool:
        return key in self._open

    @contextlib.contextmanager
    def connected(self, key: str) -> Iterator[None]:
        """Within the block, the page of this key is connected, so that its worker is kept while it is hidden."""
        self._connected[key] += 1
        try:
            yield
        finally:
            self._connected[key] -= 1
            self._connected += Counter()  # without those that have none left
            session = self._open.get(key)
            if session is not None:
                session.last_message = time.monotonic()

    def of(self, key: str, module: str, values: dict[str, Any]) -> Session:
        """The session of this key, created with these values if needed. Raises `FullError` at the limit of sessions."""
        with self._lock:
            session = self._open.get(key)
            if session is not None and session.module == module and session.alive:
                return session
            if session is None and len(self._open) >= self.most:
                self._make_room()
            if session is not None:
                session.end()
            session = self._open[key] = Session(module, values)
            return session

    def _make_room(self) -> None:
        """End the worker of the page that has been hidden longest. Raises `FullError` if all pages are seen."""
        hidden = {key: each.seen for key, each in self._open.items() if not each.is_answering}
        key = min(hidden, key=hidden.__getitem__, default=None)
        if key is None or time.monotonic() - hidden[key] < _QUIET:
            raise FullError
        self._open.pop(key).end()

    async def frame(self, key: str, module: str, values: dict[str, Any], after: int) -> str:
        """Wait for a frame of a session that is newer than `after`, and return it."""
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap())
        session = await asyncio.to_thread(self.of, key, module, values)
        return await asyncio.get_running_loop().run_in_executor(self._threads, session.frame, after)

    async def _reap(self) -> None:
        now = time.monotonic()
        while True:
            due = now + _LOOK
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            for session in list(self._open.values()):
                stalled = max(now - due, 0.0)  # messages that arrived while this process was stalled are unread
                session.last_message += stalled
                session.seen += stalled
            for key, session in list(self._open.items()):
                if session.is_idle(now, key in self._connected) or not session.alive:
                    await asyncio.to_thread(self.end, key)

    def end(self, key: str) -> None:
        with self._lock:
            session = self._open.pop(key, None)
        if session is not None:
            session.end()

    def end_all(self) -> None:
        for key in list(self._open):
            self.end(key)
        self._threads.shutdown(wait=False, cancel_futures=True)

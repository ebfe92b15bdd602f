"""One worker process for each visitor and page, forked where torch is loaded; gone when nobody asks any more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from limelight.experiment.processes import without_current_folder
from limelight.lab.worker import main

_QUIET = 8.0  # seconds without a word from the page, after which its work ends
_GONE = 120.0  # the same while a worker is busy: a slow one is not a dead one
_LOOK = 1.0  # seconds between two looks for such
_FORKS = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows, where each worker loads torch anew
_CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
_BREATH = 1.0  # seconds between two looks whether a worker that is silent still lives


def key_of(given: Any) -> str:
    """The key of a page, which comes from outside. Raises `ValueError` or `TypeError` where it is none."""
    return str(uuid.UUID(given))


def warm() -> None:
    """Start the process that workers are forked from, so that the first visitor need not wait for it."""
    if _FORKS:
        from multiprocessing import forkserver  # which Windows lacks

        _CONTEXT.set_forkserver_preload(["limelight.lab.preload"])
        with without_current_folder():
            forkserver.ensure_running()


class FullError(Exception):
    """As many play already as the machine is to bear."""


class Session:
    """A worker and the pipe to it. Messages may be sent from any thread, also before it has started."""

    def __init__(self, module: str, values: dict[str, Any]) -> None:
        self.module, self.heard = module, time.monotonic()
        self._connection, self._theirs = _CONTEXT.Pipe()
        self._sending, self._asking, self._starting = threading.Lock(), threading.Lock(), threading.Lock()
        self._process = _CONTEXT.Process(target=main, args=(self._theirs, module, values), daemon=True)

    def start(self) -> None:
        """Fork the worker, unless that is done: for the first it takes until all is loaded that workers need."""
        with self._starting:
            if self._process.pid is None and not self._theirs.closed:
                with without_current_folder():
                    self._process.start()
                self._theirs.close()

    def send(self, do: str, **more: Any) -> None:
        self.heard = time.monotonic()
        with self._sending:
            self._connection.send_bytes(json.dumps({"do": do, **more}).encode())

    def frame(self, after: int) -> str:
        """The newest frame as JSON, once there is one after this; `OSError` or `EOFError` where the worker died."""
        self.start()
        with self._asking:
            self.send("frame", after=after)
            while not self._connection.poll(_BREATH):  # on a busy machine it may take long, and is not lost for that
                if not self.alive:
                    raise EOFError("the worker has ended")
            answer = self._connection.recv_bytes().decode()
        self.heard = time.monotonic()
        return answer

    def is_quiet(self, now: float) -> bool:
        """True if the page has sent nothing for too long and no request of it is pending."""
        waits = self._asking.locked() or self._starting.locked()
        return now - self.heard > (_GONE if waits else _QUIET)

    @property
    def alive(self) -> bool:
        return self._process.pid is None or bool(self._process.is_alive())

    def end(self) -> None:
        with self._starting:
            self._theirs.close()  # so that it is never started
        if self._process.pid is not None:
            self._process.terminate()
            self._process.join(1)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        with self._asking:
            self._connection.close()


class Sessions:
    """All of them, by the key that a page was given when it was opened."""

    def __init__(self, most: int = 16) -> None:
        self.most = most
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=most, thread_name_prefix="frames")
        self._reaper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def send(self, key: str, do: str, **more: Any) -> None:
        """Tell the session of this key; where there is none, or its worker has died, nobody."""
        session = self._open.get(key)
        if session is not None:
            with contextlib.suppress(OSError):
                session.send(do, **more)

    def touch(self, key: str) -> None:
        """The page of this key is still open, even if it draws too slowly to ask."""
        session = self._open.get(key)
        if session is not None:
            session.heard = time.monotonic()

    def of(self, key: str, module: str, values: dict[str, Any]) -> Session:
        """The session of this key, made with these values where there is none. Raises `FullError`."""
        with self._lock:
            session = self._open.get(key)
            if session is not None and session.module == module and session.alive:
                return session
            if session is None and len(self._open) >= self.most:
                raise FullError
            if session is not None:
                session.end()
            session = self._open[key] = Session(module, values)
            return session

    async def frame(self, key: str, module: str, values: dict[str, Any], after: int) -> str:
        """The newest frame of a session, once there is one after this."""
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
                session.heard += max(now - due, 0.0)  # what was said while this process had no time is not heard yet
            for key, session in list(self._open.items()):
                if session.is_quiet(now) or not session.alive:
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

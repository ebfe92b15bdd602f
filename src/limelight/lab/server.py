"""The server of `limelight lab`, which runs until it is interrupted."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from limelight.errors import InputError
from limelight.lab.app import build
from limelight.lab.middleware import MOST, RequestLimits
from limelight.lab.sessions import Sessions

LOOPBACK = "127.0.0.1"


def serve(host: str, port: int, browser: bool, sessions: int, results: Path, ready: Callable[[str], None]) -> None:
    """Serve the lab until Ctrl-C, with at most this many sessions at once and the verdicts of the folder `results`.

    `ready` is called with the address once the server answers.

    Raises `InputError` if the port is taken or the host is not an address of this machine.
    """
    with listening(host, port) as (listener, address):
        workers = Sessions(sessions)
        app = build(workers, results)
        application = RequestLimits(app.server, host, app.csp_hashes(), workers)
        server = _Server(
            uvicorn.Config(
                application, log_level="warning", lifespan="on", server_header=False, timeout_graceful_shutdown=1,
                ws_max_size=MOST, ws_per_message_deflate=False,
            ),
            lambda: _opened(address, browser, ready),
        )  # fmt: skip
        logging.getLogger("uvicorn.error").addFilter(_should_log)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
        finally:
            workers.end_all()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _opened(address: str, browser: bool, ready: Callable[[str], None]) -> None:
    ready(address)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket on that port (any free one for 0), and the address to open in a browser."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port expects a number from 0 (any that is free) to 65535, got {port}")
    try:
        family, _, _, _, place = socket.getaddrinfo(host or LOOPBACK, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as problem:
        raise InputError(f"--host expects an address of this machine, got {host!r} ({problem.strerror})") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                raise InputError(
                    f"port {port} of {host} is in use, perhaps by another lab; try --port {port + 1}, or 0 for any"
                ) from None
            raise InputError(f"cannot listen on port {port} of {host!r}: {problem.strerror}") from None
        name = LOOPBACK if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host
        yield listener, f"http://{name}:{listener.getsockname()[1]}/"


def _should_log(record: logging.LogRecord) -> bool:
    """False for the error that a browser causes when it closes a page during a callback."""
    return "ASGI application" not in record.getMessage() or "WebSocketDisconnect" not in str(record.exc_info)

"""The websocket between a page and its simulation: frames to the page, settings and actions from it.

In: {"after": n} requests a frame newer than n, the first time with {"values": {…}} for the worker to begin with;
{"set": {…}} gives the values of the controls; {"press": name} reports a button, {"act": name, "given": …} any other
action. Out: frames, and {"settings": {…}} for each "set". Dash's own callbacks would be slower, since each of them
passes through Dash's store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from limelight.lab import controls
from limelight.lab.address import read
from limelight.lab.messages import Action, ButtonPress, ControlValues, FrameRequest, is_from_here, parsed
from limelight.lab.page import Page
from limelight.lab.sessions import FullError, Sessions, key_of

_FOREIGN, _NONSENSE = 4003, 4400


def serve_frames(server: FastAPI, sessions: Sessions, pages: Mapping[str, Page]) -> None:
    """Open the websocket /frames?page=…&key=… for the pages that have a simulation."""

    @server.websocket("/frames")
    async def frames(socket: WebSocket) -> None:
        if not is_from_here(socket.headers):
            await socket.close(_FOREIGN, "origin not allowed")
            return
        page = pages.get(socket.query_params.get("page", ""))
        try:
            key = key_of(socket.query_params["key"])
        except (KeyError, ValueError):
            page = None
        if page is None or page.simulation is None:
            await socket.close(_NONSENSE, "no such page")
            return
        await socket.accept()
        with sessions.connected(key):
            await _Visitor(socket, sessions, page, key).listen()


class _Visitor:
    def __init__(self, socket: WebSocket, sessions: Sessions, page: Page, key: str) -> None:
        self._socket, self._sessions, self._page, self._key = socket, sessions, page, key
        self._values = read(page.fields, {})[0]
        self._answer: asyncio.Task[None] | None = None
        self._has_worker = False

    async def listen(self) -> None:
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                await self._handle(parsed(message.get("text") or ""))
        except WebSocketDisconnect:  # the page was closed while an answer was sent
            pass
        except ValueError:
            await self._socket.close(_NONSENSE, "no such message")
        finally:
            if self._answer is not None:
                self._answer.cancel()

    async def _handle(self, message: FrameRequest | ControlValues | ButtonPress | Action) -> None:
        if isinstance(message, Action):
            await self._send_to_worker("act", name=message.act, given=message.given)
        elif isinstance(message, ButtonPress):
            await self._send_to_worker(message.press)
        elif isinstance(message, ControlValues):
            self._values, wrong = controls.held(self._page.fields, message.set, self._values)
            await self._send_to_worker("change", values=self._values)
            settings = controls.settings(self._page.fields, self._values, wrong)
            await self._socket.send_text(json.dumps({"settings": settings}))
        elif self._answer is None or self._answer.done():  # at most one pending request for each page
            if message.values is not None:
                self._values = read(self._page.fields, message.values)[0]
            self._answer = asyncio.create_task(self._send(message.after))

    async def _send_to_worker(self, do: str, **more: Any) -> None:
        await asyncio.to_thread(self._sessions.send, self._key, do, **more)

    async def _send(self, after: int) -> None:
        frame = await self._frame(after)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the page may be closed by now
            await self._socket.send_text(frame)

    async def _frame(self, after: int) -> str:
        """A frame of the page's simulation, or why there is none now."""
        assert self._page.simulation is not None
        had_worker, self._has_worker = self._has_worker, False
        if had_worker and self._key not in self._sessions:
            return _wait(2, "This page's worker has ended, as it does when the page is hidden for ten minutes. "
                         "The simulation starts again.")  # fmt: skip
        try:
            frame = await self._sessions.frame(self._key, self._page.simulation, self._values, after)
        except FullError:
            return _wait(3, f"{self._sessions.most} pages run already, which is the limit of this lab. "
                         "This page starts when one of them is closed.")  # fmt: skip
        except (OSError, EOFError):
            return _wait(1, "The worker of this page was lost; the simulation starts again.")
        self._has_worker = True
        return frame


def _wait(seconds: float, note: str) -> str:
    return json.dumps({"again": seconds, "note": note})

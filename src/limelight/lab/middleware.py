"""Limits on every request: the allowed host names, the largest size, and the content security policy of the pages."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from limelight.lab.sessions import Sessions

MOST = 4 << 20  # bytes of a request, or of a message over the websocket
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def policy(hashes: Sequence[str]) -> str:
    """The content security policy: nothing from other servers, and no script but the lab's own and those hashed."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {' '.join(hashes)}",
            "style-src 'self' 'unsafe-inline'",  # Plotly sets styles
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self'",
            "manifest-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


class RequestLimits:
    """ASGI middleware that refuses other host names and requests that are too large, and adds the security policy.

    `/alive` returns the identity of this server; `/bye?key` ends the worker of a page."""

    def __init__(self, application: Application, host: str, hashes: Sequence[str], sessions: Sessions) -> None:
        self._application, self._sessions = application, sessions
        # DNS rebinding: a page of another site reaches a loopback server by a host name that resolves to this machine.
        self._hosts = None if host in ("0.0.0.0", "::", "") else {*_LOOPBACK, host, f"[{host}]"}
        self._instance = uuid.uuid4().hex
        self._headers = [
            (b"content-security-policy", policy(hashes).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self._is_here(headers.get(b"host", b"").decode("latin-1")):
            await self._refuse(scope, receive, send, 421, "This lab answers to its own address only.")
        elif int(headers.get(b"content-length", b"0") or 0) > MOST or b"transfer-encoding" in headers:
            await self._refuse(scope, receive, send, 413, "The request is larger than this lab accepts.")
        elif scope["type"] == "http" and scope["path"] == "/alive":
            await self._answer(send, 200, self._instance)
        elif scope["type"] == "http" and scope["path"] == "/bye":
            await asyncio.to_thread(self._sessions.end, scope["query_string"].decode("latin-1"))
            await self._answer(send, 200, "")
        else:
            await self._application(scope, receive, self._with_headers(send))

    def _is_here(self, host: str) -> bool:
        if self._hosts is None:
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return name in self._hosts

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        return sending

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4003, "reason": reason})
            return
        await self._answer(send, status, reason)

    async def _answer(self, send: Send, status: int, text: str) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *self._headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

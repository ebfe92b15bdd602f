"""Validation of callback requests before Dash sees them: only requests that a page of the lab could send pass.

Dash trusts the browser: a request names the inputs, states and outputs of a callback, and Dash raises an error if they
differ from the declared ones. So each request is compared here with the declaration of its callback, and only the
validated fields are passed on. The types of the values are those of the callback's signature (`checked`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from dash.exceptions import PreventUpdate
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, validate_call
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from limelight.lab.messages import Json, Message, Name, Whole, is_from_here

HTTP, SOCKET = "/_dash-update-component", "/_dash-ws-callback"
_FOREIGN, _NONSENSE, _REFUSED = 4003, 4400, "no such message"

Identity = Name | Annotated[dict[Name, Name | Whole], Field(min_length=1, max_length=10)]  # the id of a component
P = ParamSpec("P")
T = TypeVar("T")


class Place(Message):
    """A property of a component."""

    id: Identity
    property: Name


class Held(Place):
    """A property of a component with its value, if it has one."""

    value: Json = None


Many = Annotated[list[T], Field(max_length=1000)]


class Call(Message):
    """The request to run the callback that has these outputs."""

    output: Annotated[str, Field(max_length=2000)]
    outputs: Place | Many[Place | Many[Place]]
    inputs: Many[Held | Many[Held]]
    state: Many[Held | Many[Held]] = []
    changedPropIds: Many[Name]  # noqa: N815 (Dash's names)
    parsedChangedPropsIds: Many[Identity] = []  # noqa: N815


class Request(Message):
    """A `Call` sent over the websocket."""

    type: Literal["callback_request"]
    rendererId: Name  # noqa: N815
    requestId: Name  # noqa: N815
    payload: Call


class Heartbeat(Message):
    """The heartbeat by which an open page keeps its websocket alive."""

    type: Literal["heartbeat"]


_MESSAGE: TypeAdapter[Request | Heartbeat] = TypeAdapter(Request | Heartbeat)


class Calls:
    """The valid calls of an application, read from Dash's table of its callbacks."""

    def __init__(self, callbacks: Mapping[str, Mapping[str, Any]]) -> None:
        self._declared = callbacks

    def over_http(self, body: bytes) -> bytes:
        """The validated body of an HTTP request. Raises `ValueError` if it is not a valid call."""
        call = Call.model_validate_json(body)
        self._require(call)
        return call.model_dump_json(exclude_unset=True).encode()

    def over_socket(self, text: str) -> str:
        """The validated text of a websocket message. Raises `ValueError` if it is not a valid message."""
        said = _MESSAGE.validate_json(text)
        if isinstance(said, Request):
            self._require(said.payload)
        return said.model_dump_json(exclude_unset=True)

    def _require(self, call: Call) -> None:
        declared = self._declared.get(call.output)
        if declared is None or "callback" not in declared:  # clientside callbacks have none
            raise ValueError("no such callback")
        given = declared["output"]
        several = isinstance(given, list | tuple)
        if several != isinstance(call.outputs, list):
            raise ValueError("one output, or several")
        places = [(each.component_id_str(), each.component_property) for each in (given if several else [given])]
        match = _Match()
        match.take(call.outputs if isinstance(call.outputs, list) else [call.outputs], places)
        for came, key in ((call.inputs, "inputs"), (call.state, "state")):
            match.take(came, [(each["id"], each["property"]) for each in declared[key]])
        inputs = {f"{_text(each.id)}.{each.property}" for each in _flat(call.inputs)}
        if not inputs.issuperset(call.changedPropIds):
            raise ValueError("a changed property that is not an input")


class _Match:
    """True if the places are the declared ones. `MATCH` is one value for the whole call, `ALL` a list of places."""

    def __init__(self) -> None:
        self._matched: dict[str, Any] = {}
        self._all: dict[str, list[Any]] = {}

    def take(
        self, came: Sequence[Place | list[Place]] | Sequence[Held | list[Held]], declared: Sequence[tuple[str, str]]
    ) -> None:
        if len(came) != len(declared):
            raise ValueError("too few or too many")
        for each, (pattern, name) in zip(came, declared, strict=True):
            if ("ALL" in pattern) != isinstance(each, list):
                raise ValueError("one, or several")
            if not isinstance(each, list):
                self._one(each, pattern, name)
                continue
            for place in each:
                self._one(place, pattern, name)
            if self._all.setdefault(pattern, ids := [place.id for place in each]) != ids:
                raise ValueError("other places than before")

    def _one(self, place: Place, pattern: str, name: str) -> None:
        expected = json.loads(pattern) if pattern.startswith("{") else pattern
        if place.property != name:
            raise ValueError("another property")
        if name == "id" and isinstance(place, Held) and place.value != place.id:
            raise ValueError("an id that is another's")
        if not isinstance(expected, dict) or not isinstance(place.id, dict):
            if place.id != expected:
                raise ValueError("another component")
            return
        if place.id.keys() != expected.keys():
            raise ValueError("another component")
        for key, value in place.id.items():
            wanted = self._matched.setdefault(key, value) if expected[key] == ["MATCH"] else expected[key]
            if wanted != ["ALL"] and value != wanted:
                raise ValueError("another component")


def _flat(came: Sequence[Held | list[Held]]) -> list[Held]:
    return [each for some in came for each in (some if isinstance(some, list) else [some])]


def _text(identity: Any) -> str:
    """An id as Dash writes it."""
    return identity if isinstance(identity, str) else json.dumps(identity, sort_keys=True, separators=(",", ":"))


def checked(callback: Callable[P, T]) -> Callable[P, T]:
    """A callback whose arguments are validated against its signature. If one is invalid, the page stays as it is."""
    valid = validate_call(config=ConfigDict(strict=True, allow_inf_nan=False))(callback)

    @functools.wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return valid(*args, **kwargs)
        except ValidationError:
            raise PreventUpdate from None

    return call


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Checked:
    """ASGI middleware that refuses every call that `Calls` does not accept."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], calls: Calls) -> None:
        self._app, self._calls = app, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == SOCKET:
            if is_from_here(Headers(scope=scope)):
                await self._app(scope, self._listening(receive, send), send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": _FOREIGN, "reason": "origin not allowed"})
        elif scope["type"] == "http" and scope["path"] == HTTP and scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _listening(self, receive: Receive, send: Send) -> Receive:
        async def listen() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            try:
                return {"type": "websocket.receive", "text": self._calls.over_socket(message.get("text") or "")}
            except ValueError:
                await send({"type": "websocket.close", "code": _NONSENSE, "reason": _REFUSED})
                return {"type": "websocket.disconnect", "code": _NONSENSE}

        return listen

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            body = self._calls.over_http(body)
        except ValueError:
            await PlainTextResponse("This is not a valid call of a callback of this lab.", 400)(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"content-type")]
        told = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        scope = {**scope, "headers": [*headers, *told]}
        read = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

"""Calls of callbacks: recorded ones are passed on unchanged, and all others are refused before they reach Dash."""

import asyncio
import copy
import json
import logging
from contextlib import suppress

import pytest
from dash.exceptions import PreventUpdate

from limelight.lab.app import build
from limelight.lab.calls import HTTP, SOCKET, Calls, Checked, checked
from limelight.lab.messages import parsed
from limelight.lab.runs import Runs
from limelight.lab.sessions import Sessions
from tests.lab.mutation import RECORDED, deep, mutants

SAID = [message for page, message in RECORDED if page == "dash"]
HEADERS = [(b"host", b"127.0.0.1:1"), (b"origin", b"http://127.0.0.1:1"), (b"content-type", b"application/json")]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return build(Sessions(1), tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def calls(app):
    return Calls(app.callback_map)


def test_recorded_browser_calls_are_passed_on_unchanged(calls):
    assert len(SAID) > 10
    for message in SAID:
        assert json.loads(calls.over_socket(json.dumps(message))) == message
        assert json.loads(calls.over_http(json.dumps(message["payload"]).encode())) == message["payload"]
    assert json.loads(calls.over_socket('{"type": "heartbeat"}')) == {"type": "heartbeat"}


def of(part):
    """A recorded call whose output has this in its name."""
    return copy.deepcopy(next(message for message in SAID if part in message["payload"]["output"]))


def changed(part, change):
    message = of(part)
    change(message["payload"])
    return message


WRONG = {
    "an output that is none": ("content", lambda call: call.update(output="nothing.children")),
    "a callback of the browser": ("content", lambda call: call.update(output="playing.data")),
    "no output": ("content", lambda call: call.pop("output")),
    "an output that is no text": ("content", lambda call: call.update(output=["content.children"])),
    "several outputs for one": ("content", lambda call: call.update(outputs=[call["outputs"]])),
    "one output for several": ("uploaded", lambda call: call.update(outputs=call["outputs"][0])),
    "too few outputs": ("uploaded", lambda call: call["outputs"].pop()),
    "another output": ("content", lambda call: call.update(outputs={"id": "banner", "property": "children"})),
    "another property": ("content", lambda call: call["inputs"][0].update(property="search")),
    "another input": ("content", lambda call: call["inputs"][0].update(id="verdict-address")),
    "no inputs": ("content", lambda call: call.update(inputs=[])),
    "a list of inputs for one": ("content", lambda call: call.update(inputs=[call["inputs"]])),
    "one input for a list": ("note", lambda call: call["inputs"].__setitem__(0, call["inputs"][0][0])),
    "no state": ("content", lambda call: call.pop("state")),
    "a change of what is no input": ("content", lambda call: call.update(changedPropIds=["page.data"])),
    "a change that is no text": ("content", lambda call: call.update(changedPropIds=[None])),
    "a name of its own": ("content", lambda call: call.update(background=True)),
    "too deep": ("content", lambda call: call["inputs"][0].update(value=deep(250))),
    "not a number": ("content", lambda call: call["inputs"][0].update(value=float("nan"))),
    "infinity within": ("content", lambda call: call["inputs"][0].update(value={"a": [float("inf")]})),
    "claims of two names": ("badge", lambda call: call["outputs"][0]["id"].update(claim="lipschitz")),
    "an id of another": ("badge", lambda call: call["state"][0]["value"].update(claim="lipschitz")),
    "another kind of id": ("badge", lambda call: call["inputs"][0]["id"].update({"verdict-stamp": "page"})),
    "an id with more": ("badge", lambda call: call["inputs"][0]["id"].update(more="x")),
    "an id that is a number": ("content", lambda call: call["inputs"][0].update(id=3)),
    "fewer places than outputs": ("progress", lambda call: call["state"].__setitem__(0, [])),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_calls_are_refused(calls, what):
    message = changed(*WRONG[what])
    with pytest.raises(ValueError, match=r"."):
        calls.over_socket(json.dumps(message))
    with pytest.raises(ValueError, match=r"."):
        calls.over_http(json.dumps(message["payload"]).encode())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"x"', '{"type": "callback_request"}', '{"type": "get_props_response"}',
             '{"type": ["heartbeat"]}', "[" * 100_000, r'{"type": "\ud800"}', "\0"],
)  # fmt: skip
def test_messages_that_are_no_calls_are_refused(calls, text):
    with pytest.raises(ValueError, match=r"."):
        calls.over_socket(text)
    with pytest.raises(ValueError, match=r"."):
        calls.over_http(text.encode())
    with pytest.raises(ValueError, match="no such message"):
        parsed(text)


def test_a_callback_gets_only_values_of_its_signature():
    told = []

    @checked
    def listen(name: str | None, numbers: list[int]) -> str:
        told.append((name, numbers))
        return "heard"

    assert listen("a", [1, 2]) == "heard"
    for wrong in [(1, [1]), ("a", 1), ("a", ["1"]), ("a", [1.5]), ("a",), ("a", [True])]:
        with pytest.raises(PreventUpdate):
            listen(*wrong)
    assert told == [("a", [1, 2])]


def speak(app, *messages):
    """The answers of an application over the websocket of callbacks, which is closed after these messages."""
    sent, waiting = [], [{"type": "websocket.connect"}]
    waiting += [{"type": "websocket.receive", **each} for each in messages]
    waiting += [{"type": "websocket.disconnect", "code": 1001}]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": SOCKET, "headers": HEADERS, "query_string": b"", "subprotocols": []}
    asyncio.run(app(scope, receive, send))
    return sent


def post(app, body, parts=1):
    """The answer of an application to a call over HTTP whose body is sent in so many parts."""
    sent, size = [], len(body) // parts + 1
    waiting = [
        {"type": "http.request", "body": body[i * size : (i + 1) * size], "more_body": i + 1 < parts}
        for i in range(parts)
    ]

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "path": HTTP, "raw_path": HTTP.encode(), "method": "POST", "headers": HEADERS,
        "query_string": b"", "scheme": "http", "server": ("127.0.0.1", 1), "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def echo(scope, receive, send):
    """Accepts a connection, and sends back what it receives."""
    if scope["type"] == "http":
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@pytest.mark.parametrize("wrong", [{"text": "{"}, {"bytes": b"\xff"}, {"text": None}, {"text": json.dumps(deep(3))}])
def test_a_socket_that_says_anything_else_is_closed(calls, wrong):
    beat = {"text": '{"type":"heartbeat"}'}
    sent = speak(Checked(echo, calls), beat, wrong, beat)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[-1]["code"] == 4400


@pytest.mark.parametrize("origin", [b"http://evil.example", b"http://[::1", b"", b"null"])
def test_a_socket_from_elsewhere_is_not_opened(calls, monkeypatch, origin):
    monkeypatch.setitem(globals(), "HEADERS", [HEADERS[0], (b"origin", origin)])
    assert speak(Checked(echo, calls)) == [{"type": "websocket.close", "code": 4003, "reason": "origin not allowed"}]


@pytest.mark.parametrize("parts", [1, 3])
def test_an_invalid_call_is_answered_400_and_others_work(app, calls, parts):
    good = json.dumps(of("content")["payload"], ensure_ascii=False).encode()
    assert json.loads(post(Checked(echo, calls), good, parts)[1]) == of("content")["payload"]
    assert post(Checked(echo, calls), good[:-1], parts)[0] == 400
    status, body = post(app.server, good, parts)
    assert status == 200
    assert b"Five lines, learned by two networks" in body


def test_mutants_of_recorded_calls_raise_nothing(app, capfd, caplog, monkeypatch):
    monkeypatch.setattr(Runs, "start", lambda *given: None)
    with caplog.at_level(logging.WARNING):
        statuses = []
        for page, text in mutants(250, seed=0):
            if page == "dash":
                speak(app.server, {"text": text})
                try:
                    payload = json.dumps(json.loads(text)["payload"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    payload = text
                statuses.append(post(app.server, payload.encode())[0])
            else:
                with suppress(ValueError):
                    parsed(text)
    assert set(statuses) <= {200, 204, 400}
    assert statuses.count(400) > len(statuses) / 3
    assert caplog.records == []
    assert "Traceback" not in "".join(capfd.readouterr())

"""The checks before every request: hosts, sizes and the policy; and ports that cannot be used."""

import asyncio
import socket

import pytest

from limelight.errors import InputError
from limelight.lab.middleware import RequestLimits
from limelight.lab.server import listening


class Silent:
    def __init__(self):
        self.ended = []

    def end(self, key):
        self.ended.append(key)


async def inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(middleware, path="/", host="127.0.0.1:8765", kind="http", query=b"", **headers):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": f"{kind}.connect"}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "query_string": query, "headers": [(b"host", host.encode()), *named]}
    asyncio.run(middleware(scope, receive, send))
    return sent


@pytest.fixture
def middleware():
    return RequestLimits(inner, "127.0.0.1", ["'sha256-x'"], Silent())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost:8765", "[::1]:8765"])
def test_its_own_host_names_are_answered_with_a_policy(middleware, host):
    start, body = ask(middleware, host=host)
    assert body["body"] == b"inside"
    policy = dict(start["headers"])[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'sha256-x';" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example:8765", ""])
def test_another_host_name_is_refused(middleware, host):
    assert ask(middleware, host=host)[0]["status"] == 421
    assert ask(middleware, host=host, kind="websocket")[0]["type"] == "websocket.close"


def test_bound_to_every_address_it_answers_to_every_name():
    assert ask(RequestLimits(inner, "0.0.0.0", [], Silent()), host="desk.example:8765")[0]["status"] == 200


@pytest.mark.parametrize("headers", [{"content_length": "9999999"}, {"transfer_encoding": "chunked"}])
def test_a_request_that_is_too_large_is_refused_unread(middleware, headers):
    assert ask(middleware, **headers)[0]["status"] == 413


def test_alive_identifies_the_server_and_bye_ends_a_worker():
    sessions = Silent()
    middleware = RequestLimits(inner, "127.0.0.1", [], sessions)
    first, again = (ask(middleware, "/alive")[1]["body"] for _ in range(2))
    assert first == again
    assert first != ask(RequestLimits(inner, "127.0.0.1", [], sessions), "/alive")[1]["body"]
    ask(middleware, "/bye", query=b"k")
    assert sessions.ended == ["k"]


def test_a_port_in_use_is_reported_with_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is in use.*--port {port + 1}"),
            listening("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("127.0.0.1", 70000, "--port expects"),
        ("no.such.host.invalid", 0, "--host expects"),
        ("192.0.2.1", 0, "cannot listen"),
    ],
)
def test_an_unusable_address_raises_one_sentence(host, port, told):
    with pytest.raises(InputError, match=told), listening(host, port):
        pass


def test_any_free_port_and_the_address_for_a_browser():
    with listening("0.0.0.0", 0) as (listener, address):
        assert address == f"http://127.0.0.1:{listener.getsockname()[1]}/"

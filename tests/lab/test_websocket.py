"""The websocket of frames without a browser: which connections and messages it accepts."""

import asyncio
import contextlib
import json
import uuid

import pytest
from fastapi import FastAPI

from limelight.lab.pages import PAGES
from limelight.lab.sessions import FullError
from limelight.lab.websocket import serve_frames

KEY = str(uuid.UUID(int=7))
HERE = {b"host": b"127.0.0.1:8765", b"origin": b"http://127.0.0.1:8765"}


class Sessions:
    most = 1

    def __init__(self, problem=None):
        self.problem, self.sent, self.asked, self.open = problem, [], [], []

    def __contains__(self, key):
        return key in self.open

    @contextlib.contextmanager
    def connected(self, key):
        self.open = [key]
        yield

    def send(self, key, do, **more):
        self.sent.append((key, do, more))

    async def frame(self, key, module, values, after):
        self.asked.append((key, module, values, after))
        if self.problem is not None:
            raise self.problem
        return json.dumps({"n": after + 1})


def talk(*messages, sessions=None, query=f"page=slopes&key={KEY}", headers=HERE):
    """The answers, until one side closes the connection."""
    server = FastAPI()
    serve_frames(server, sessions or Sessions(), {page.name: page for page in PAGES})

    async def conversation():
        received, sent = asyncio.Queue(), []
        received.put_nowait({"type": "websocket.connect"})
        for message in messages:
            received.put_nowait({"type": "websocket.receive", "text": message})

        async def receive():
            for _ in range(20):  # an answer may be on its way
                await asyncio.sleep(0)
            if received.empty():
                return {"type": "websocket.disconnect", "code": 1000}
            return received.get_nowait()

        async def send(message):
            sent.append(message)

        scope = {"type": "websocket", "path": "/frames", "raw_path": b"/frames", "query_string": query.encode(),
                 "headers": list(headers.items()), "subprotocols": [], "root_path": "", "scheme": "ws"}  # fmt: skip
        await server(scope, receive, send)
        return sent

    return asyncio.run(conversation())


def asked(after=-1, **values):
    return json.dumps({"after": after, "values": values})


def test_a_requested_frame_is_sent_and_its_values_are_checked():
    sessions = Sessions()
    sent = talk(asked(3, experts="many", seed=5), sessions=sessions)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]
    assert json.loads(sent[1]["text"]) == {"n": 4}
    key, module, values, after = sessions.asked[0]
    assert (key, module, after) == (KEY, "limelight.lab.pages.slopes.simulation", 3)
    assert (values["experts"], values["seed"]) == (5, 5)


def test_an_action_goes_to_the_worker_of_that_page():
    sessions = Sessions()
    talk(json.dumps({"act": "move", "given": [1, 2]}), sessions=sessions)
    assert sessions.sent == [(KEY, "act", {"name": "move", "given": [1, 2]})]


def test_settings_are_checked_and_sent_to_the_worker_and_the_page():
    sessions = Sessions()
    sent = talk(asked(experts=4), json.dumps({"set": {"experts": "99", "width": 7, "nonsense": 1}}), sessions=sessions)
    ((key, do, more),) = sessions.sent
    assert (key, do) == (KEY, "change")
    assert (more["values"]["experts"], more["values"]["width"]) == (10, 7)
    (told,) = [json.loads(each["text"])["settings"] for each in sent if "settings" in each.get("text", "")]
    assert told["values"] == more["values"]
    assert told["said"]["experts"] == "10"
    assert "99 is not between" in told["wrong"]
    assert "experts=10" in told["query"]


def test_a_setting_keeps_those_before():
    sessions = Sessions()
    talk(asked(), *(json.dumps({"set": each}) for each in ({"experts": 3}, {"width": 7})), sessions=sessions)
    values = sessions.sent[-1][2]["values"]
    assert (values["experts"], values["width"]) == (3, 7)


def test_a_new_worker_has_the_last_settings():
    sessions = Sessions()
    talk(json.dumps({"set": {"experts": 3}}), json.dumps({"after": 7}), sessions=sessions)
    ((_, _, values, after),) = sessions.asked
    assert (values["experts"], after) == (3, 7)


def test_a_pressed_button_is_sent_to_the_worker():
    sessions = Sessions()
    talk(*(json.dumps({"press": name}) for name in ("play", "step", "pause", "reset")), sessions=sessions)
    assert [do for _, do, _ in sessions.sent] == ["play", "step", "pause", "reset"]


@pytest.mark.parametrize(
    ("problem", "told"),
    [(FullError(), "1 pages run already"), (EOFError(), "was lost"), (TimeoutError(), "was lost")],
)
def test_without_a_frame_the_answer_says_why_and_when_to_retry(problem, told):
    frame = json.loads(talk(asked(), sessions=Sessions(problem))[1]["text"])
    assert told in frame["note"]
    assert frame["again"] > 0


class Forgetful(Sessions):
    """The worker of a page ends after each frame, as if the page had been hidden for long."""

    async def frame(self, key, module, values, after):
        self.open = []
        return await super().frame(key, module, values, after)


def test_a_page_whose_worker_has_ended_is_reported_before_its_simulation_starts_again():
    sessions = Forgetful()
    frames = [json.loads(each["text"]) for each in talk(*[asked()] * 3, sessions=sessions)[1:]]
    assert [list(frame) for frame in frames] == [["n"], ["again", "note"], ["n"]]
    assert "hidden for ten minutes" in frames[1]["note"]
    assert len(sessions.asked) == 2


@pytest.mark.parametrize("origin", [b"http://evil.example", b"http://127.0.0.1:9", b"http://[::1", b"null", b""])
def test_a_page_of_another_site_is_refused(origin):
    assert talk(asked(), headers=HERE | {b"origin": origin})[0]["code"] == 4003


@pytest.mark.parametrize(
    "query", ["", "page=slopes", "page=slopes&key=1", f"page=verdicts&key={KEY}", f"page=x&key={KEY}"]
)
def test_a_page_without_a_simulation_is_refused(query):
    assert talk(asked(), query=query)[0]["code"] == 4400


@pytest.mark.parametrize(
    "message",
    [
        "", "{", "[]", "3", "null", '{"after": "x"}', '{"after": null}', '{"after": 1.5}', '{"after": true}',
        '{"after": 1, "values": 3}', '{"after": NaN}', f'{{"after": {10**400}}}', '{"after": 1, "more": 1}',
        '{"set": 3}', '{"set": {"experts": {}}}', '{"set": {"experts": NaN}}', f'{{"set": {{"experts": {10**400}}}}}',
        '{"press": "change"}', '{"press": "frame"}', '{"press": ["step"]}', '{"act": 1}',
        '{"act": "move", "given": NaN}',
        r'{"act": "\ud800"}', "[" * 100_000, '{"act": "move", "given": ' + "[" * 300 + "]" * 300 + "}",
    ],
)  # fmt: skip
def test_an_invalid_message_closes_the_socket(message):
    sessions = Sessions()
    sent = talk(message, sessions=sessions)
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 4400)
    assert sessions.asked == sessions.sent == []

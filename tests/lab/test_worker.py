"""The loop of a worker, on a pipe in this process, and workers as processes."""

import asyncio
import json
import math
import multiprocessing
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from typing import ClassVar

import pytest
from plotly.graph_objects import Figure, Scatter

from limelight.errors import InputError
from limelight.lab import sessions as module
from limelight.lab.address import read
from limelight.lab.pages.slopes.settings import FIELDS
from limelight.lab.sessions import FullError, Sessions
from limelight.lab.simulation import Simulation
from limelight.lab.worker import Player

SIMULATION = "limelight.lab.pages.slopes.simulation"


class Counting(Simulation):
    def __init__(self, values):
        super().__init__(values)
        self.steps = 0

    def step(self):
        if self.values["n"] == 9:
            raise InputError("nine is too many")
        self.steps += 1
        return self.steps < 5

    def figures(self):
        return {"place": Figure(Scatter(y=[self.steps])), "still": Figure(Scatter(y=[7]))}

    def updates(self):
        return {"place": [(0, {"y": [self.steps]})], "still": [(0, {"y": [7]})]}

    def labels(self):
        return {"said": str(self.steps)}

    def change(self, values):
        self.values = values
        return ["place"] if values["n"] == 5 else []

    @property
    def rate(self):
        return 1000.0


@contextmanager
def playing(kind=Counting, **values):
    ours, theirs = Pipe()
    player = Player(theirs, kind, {"n": 0, **values})

    def run():
        with suppress(EOFError):
            player.run()

    thread = threading.Thread(target=run)
    thread.start()

    def tell(do, **more):
        ours.send_bytes(json.dumps({"do": do, **more}).encode())

    def frame(after):
        tell("frame", after=after)
        assert ours.poll(30)
        return json.loads(ours.recv_bytes())

    yield tell, frame
    ours.close()
    thread.join(30)
    assert not thread.is_alive()


def test_the_first_frame_is_whole_and_the_next_has_what_changed():
    with playing() as (tell, frame):
        first = frame(-1)
        assert first["figures"]["place"]["data"][0]["y"] == [0]
        tell("step")
        second = frame(first["n"])
        assert second["updates"] == {"place": [[0, {"y": [1]}]], "still": [[0, {"y": [7]}]]}
        assert second["words"] == {"said": "1"}


class Working(Counting):
    """Two pieces of work for each setting, of which it keeps a record; a third setting is refused."""

    done: ClassVar[list] = []

    def __init__(self, values):
        super().__init__(values)
        self.left = 2

    @property
    def has_work(self):
        return self.left > 0

    def work(self):
        self.left -= 1
        if self.values["n"] == 9:
            raise InputError("nine is too many")
        self.done.append((self.values["n"], self.left))
        return ["place"]

    def change(self, values):
        self.left = 2
        return super().change(values)

    def choices(self):
        return {"n": [(str(self.values["n"]), "the number")]}


def test_work_is_done_in_pieces_while_the_page_is_seen_and_only_then():
    Working.done.clear()
    with playing(Working) as (tell, frame):
        time.sleep(0.2)
        assert Working.done == []  # no frame has been requested yet
        first = frame(-1)
        assert first["figures"].keys() == {"place", "still"}
        assert first["choices"] == {"n": [["0", "the number"]]}
        n, drawn = first["n"], set()
        while len(Working.done) < 2 or "place" not in drawn:
            now = frame(n)
            assert "choices" not in now
            n, drawn = now["n"], drawn | now.get("figures", {}).keys()
        assert drawn == {"place"}
        tell("change", values={"n": 3})
        tell("change", values={"n": 4})
        while (4, 0) not in Working.done:
            now = frame(n)
            n = now["n"]
        assert (3, 0) not in Working.done  # a setting that was changed meanwhile
        tell("change", values={"n": 9})
        while not (now := frame(n))["note"]:
            n = now["n"]
        assert now["note"] == "nine is too many"


def test_a_picture_in_which_nothing_has_changed_is_not_sent_again():
    with playing() as (tell, frame):
        n = frame(-1)["n"]
        tell("step")
        n = frame(n)["n"]
        tell("step")
        assert frame(n)["updates"] == {"place": [[0, {"y": [2]}]]}


def test_a_page_that_missed_a_frame_gets_a_whole_one():
    with playing() as (tell, frame):
        first = frame(-1)
        tell("step")
        frame(first["n"])
        assert "figures" in frame(first["n"])


def test_it_plays_to_the_last_step_and_pause_stops_it():
    with playing() as (tell, frame):
        n = frame(-1)["n"]
        tell("play")
        while (now := frame(n))["playing"]:
            n = now["n"]
        assert now["words"] == {"said": "5"}
        tell("pause")
        assert frame(now["n"])["words"] == {"said": "5"}


def test_the_worker_of_a_hidden_page_takes_no_step(monkeypatch):
    """It takes no steps and does not wake up, and continues when the page is visible again."""
    now = 100.0
    monkeypatch.setattr("limelight.lab.worker.time.monotonic", lambda: now)
    ours, theirs = Pipe()
    player = Player(theirs, Counting, {"n": 0})

    def hear(**message):
        player._handle(message)
        player._answer()

    hear(do="frame", after=-1)
    hear(do="play")
    assert player._advances
    now += 1.9  # the page draws
    assert player._advances
    now += 0.2
    assert not player._advances
    assert player._wait() is None  # until there is a message
    hear(do="frame", after=player._version)
    assert player._advances
    player._play()
    assert player._live.steps > 0
    ours.close()


def test_an_unchanged_frame_is_sent_after_a_while(monkeypatch):
    monkeypatch.setattr("limelight.lab.worker._PATIENCE", 0.05)
    with playing() as (_, frame):
        first = frame(-1)
        again = frame(first["n"])
        assert again["n"] == first["n"]
        assert "figures" not in again


def test_an_error_is_shown_and_stops_the_simulation():
    with playing() as (tell, frame):
        first = frame(-1)
        tell("change", values={"n": 9})
        tell("play")
        n = first["n"]
        while (now := frame(n))["note"] == "":
            n = now["n"]
        assert now["note"] == "nine is too many"
        assert not now["playing"]
        tell("act", name="fly", given=None)
        assert "no action called “fly”" in frame(now["n"])["note"]


def test_reset_begins_anew_with_the_same_values():
    with playing() as (tell, frame):
        tell("step")
        tell("reset")
        now = frame(-1)
        while now["words"] != {"said": "0"}:
            now = frame(now["n"])
        assert "figures" in now


def test_a_change_that_restarts_is_drawn_completely():
    with playing() as (tell, frame):
        first = frame(-1)
        tell("change", values={"n": 5})
        second = frame(first["n"])
        assert second["figures"].keys() == {"place"}
        assert second["updates"].keys() == {"still"}


def test_what_was_drawn_whole_is_updated_whatever_was_sent_before():
    with playing() as (tell, frame):
        tell("step")
        n = frame(0)["n"]
        tell("change", values={"n": 5})
        n = frame(n)["n"]
        tell("change", values={"n": 0})
        assert "place" in frame(n)["updates"]


def test_values_that_are_those_already_change_nothing(monkeypatch):
    monkeypatch.setattr("limelight.lab.worker._PATIENCE", 0.05)
    with playing() as (tell, frame):
        n = frame(-1)["n"]
        tell("change", values={"n": 0})
        assert frame(n)["n"] == n


# Processes: few, because each test starts some.


@pytest.fixture
def sessions():
    found = Sessions(most=2)
    yield found
    found.end_all()


def values():
    return read(FIELDS, {})[0]


def test_each_visitor_has_a_worker_up_to_the_limit(sessions, monkeypatch):
    monkeypatch.setattr("limelight.lab.sessions._QUIET", math.inf)  # on a busy machine a frame may take longer
    first, second = (sessions.of(key, SIMULATION, values()) for key in "ab")
    assert sessions.of("a", SIMULATION, values()) is first
    first.send("step")
    assert json.loads(first.frame(0))["words"]["slopes-step"] == "step 1"
    assert json.loads(second.frame(-1))["words"]["slopes-step"] == "step 0"
    with pytest.raises(FullError):
        sessions.of("c", SIMULATION, values())
    sessions.end("a")
    assert not first.alive
    assert sessions.of("c", SIMULATION, values()).alive


def test_messages_before_the_start_reach_the_worker(sessions):
    sessions.of("a", SIMULATION, values())
    sessions.send("a", "step")
    assert json.loads(sessions.of("a", SIMULATION, values()).frame(0))["words"]["slopes-step"] == "step 1"


def test_a_first_frame_has_all_pictures(sessions):
    first = json.loads(asyncio.run(sessions.frame("a", SIMULATION, values(), -1)))
    assert len(sessions) == 1
    assert first["n"] == 0
    assert first["words"]["slopes-step"] == "step 0"
    assert first["figures"].keys() == {"slopes-gate", "slopes-relu", "slopes-weights", "slopes-loss"}


def test_where_nothing_can_be_forked_a_worker_starts_by_itself(sessions, monkeypatch):
    monkeypatch.setattr(module, "_FORKS", False)
    monkeypatch.setattr(module, "_CONTEXT", multiprocessing.get_context("spawn"))
    monkeypatch.setitem(sys.modules, "multiprocessing.forkserver", None)
    module.warm()
    assert json.loads(sessions.of("a", SIMULATION, values()).frame(-1))["words"]["slopes-step"] == "step 0"


def test_a_session_with_a_pending_request_is_kept(sessions, monkeypatch):
    monkeypatch.setattr(module, "_QUIET", 0.0)
    session = sessions.of("a", SIMULATION, values())
    assert session.is_idle(session.last_message + 1)
    with session._asking:
        assert not session.is_idle(session.last_message + 1)
    with session._starting:
        assert not session.is_idle(session.last_message + 1)


def test_a_busy_worker_of_a_closed_page_is_ended(sessions, monkeypatch):
    session = sessions.of("a", SIMULATION, values())
    with session._asking:
        assert not session.is_idle(session.last_message + 60)
        assert session.is_idle(session.last_message + 600)


def test_a_worker_that_is_slow_is_not_lost(sessions, monkeypatch):
    monkeypatch.setattr(module, "_BREATH", 0.001)  # drawing takes longer than that
    assert json.loads(sessions.of("a", SIMULATION, values()).frame(-1))["words"]["slopes-step"] == "step 0"


def test_a_worker_that_dies_while_it_is_busy_is_missed(sessions, monkeypatch):
    monkeypatch.setattr(module, "_BREATH", 0.01)
    session = sessions.of("a", SIMULATION, values())
    session.start()
    threading.Timer(0.1, session._process.kill).start()
    with pytest.raises((EOFError, OSError)):
        while True:
            session.frame(10**9)


def test_time_in_which_the_server_stalled_does_not_count(sessions, monkeypatch):
    monkeypatch.setattr(module, "_LOOK", 0.01)
    monkeypatch.setattr(module, "_QUIET", 0.5)

    async def visit():
        await sessions.frame("a", SIMULATION, values(), -1)
        time.sleep(1.0)  # as on a busy machine, where no message is read meanwhile
        for _ in range(5):
            await asyncio.sleep(0.01)
        return len(sessions)

    assert asyncio.run(asyncio.wait_for(visit(), 60)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_file_in_the_current_folder_is_not_taken_for_a_library(tmp_path, method):
    """A file torch.py in the current folder is not imported."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("torch", "numpy", "plotly"):
        (here / f"{name}.py").write_text("raise SystemExit('taken for a library')")
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing
from limelight.lab import sessions
from limelight.lab.address import read
from limelight.lab.pages.slopes.settings import FIELDS
if __name__ == "__main__":
    sessions._FORKS = {method == "forkserver"}
    sessions._CONTEXT = multiprocessing.get_context({method!r})
    sessions.warm()
    found = sessions.Sessions(1)
    print("step 0" in found.of("a", {SIMULATION!r}, read(FIELDS, {{}})[0]).frame(-1))
    found.end_all()
""")
    done = subprocess.run([sys.executable, script], cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True"], done.stderr


def test_a_worker_that_was_ended_before_it_started_never_does(sessions):
    session = sessions.of("a", SIMULATION, values())
    sessions.end("a")
    session.start()
    assert session._process.pid is None


def test_a_worker_that_died_is_replaced(sessions):
    first = sessions.of("a", SIMULATION, values())
    first.start()
    first._process.kill()
    first._process.join()
    assert sessions.of("a", SIMULATION, values()) is not first


def test_a_page_without_requests_loses_its_worker(sessions, monkeypatch):
    monkeypatch.setattr(module, "_LOOK", 0.01)

    async def visit():
        await sessions.frame("a", SIMULATION, values(), -1)
        worker = sessions.of("a", SIMULATION, values())
        monkeypatch.setattr(module, "_QUIET", 0.0)
        while len(sessions):
            await asyncio.sleep(0.01)
        return worker

    worker = asyncio.run(asyncio.wait_for(visit(), 60))
    assert len(sessions) == 0
    worker._process.join(30)
    assert not worker.alive


def test_an_open_page_that_is_hidden_keeps_its_worker_for_some_time(sessions, monkeypatch):
    session = sessions.of("a", SIMULATION, values())
    assert session.is_idle(session.last_message + 60)
    assert not session.is_idle(session.seen + 599, connected=True)
    assert session.is_idle(session.seen + 601, connected=True)


def test_a_page_may_reconnect_to_its_worker_for_some_seconds(sessions):
    session = sessions.of("a", SIMULATION, values())
    with sessions.connected("a"):
        session.last_message -= 500  # hidden
    assert not session.is_idle(time.monotonic() + 7)
    assert session.is_idle(time.monotonic() + 9)


def test_connected_sessions_are_not_ended(sessions, monkeypatch):
    monkeypatch.setattr(module, "_LOOK", 0.01)

    async def visit():
        for key in "ab":
            await sessions.frame(key, SIMULATION, values(), -1)
        monkeypatch.setattr(module, "_QUIET", 0.0)
        with sessions.connected("b"):
            while len(sessions) == 2:
                await asyncio.sleep(0.01)
            return list(sessions._open)

    assert asyncio.run(asyncio.wait_for(visit(), 60)) == ["b"]


def test_a_hidden_page_is_ended_for_a_new_visitor_if_the_lab_is_full(sessions):
    first, second = (sessions.of(key, SIMULATION, values()) for key in "ab")
    with pytest.raises(FullError):
        sessions.of("c", SIMULATION, values())
    first.seen, second.seen = time.monotonic() - 20, time.monotonic() - 30
    with second._asking:  # the worker is drawing: a slow worker does not mean a hidden page
        sessions.of("c", SIMULATION, values())
    assert ("a" in sessions, "b" in sessions, "c" in sessions) == (False, True, True)

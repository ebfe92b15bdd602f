"""Thousands of invalid messages to a running lab: every error is handled, and its memory does not grow."""

import http.client
import json
import re
import subprocess
import sys
import uuid
from contextlib import ExitStack, suppress
from itertools import count

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from limelight.lab.calls import HTTP, SOCKET
from tests.lab.mutation import mutants

pytestmark = pytest.mark.slow
PATIENCE = 180  # seconds, on a busy machine
COUNT, TENTH = 3000, 300
ROOM = 24 << 20  # bytes by which memory may grow in the second half: as much as a worker's picture takes


class Sender:
    """A socket of the lab that is opened again when it was closed."""

    def __init__(self, port, path, asks, answers):
        self.port, self.path, self.asks, self.answers = port, path, asks, answers
        self.socket, self.opened = None, ExitStack()

    def send(self, message):
        """Send a message, and then one that is always answered, and wait for the answer or for the end."""
        if self.socket is None:
            here = f"127.0.0.1:{self.port}"
            self.socket = self.opened.enter_context(
                connect(f"ws://{here}{self.path}", origin=f"http://{here}", max_size=None)
            )
        try:
            self.socket.send(message)
            self.socket.send(self.asks)
            while self.answers not in self.socket.recv(timeout=PATIENCE):
                pass
            return True
        except ConnectionClosed as end:
            code = None if end.rcvd is None else end.rcvd.code
        self.close()
        assert code == 4400
        return False

    def close(self):
        self.socket = None
        self.opened.close()


class Mutated:
    """A lab in a process of its own, with its log."""

    def __init__(self, results):
        self.log = results / "log.txt"
        command = [sys.executable, "-m", "limelight", "lab", "--no-browser", "--port", "0", "--results", str(results)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        found = None
        while found is None:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
            found = re.search(r"http://127\.0\.0\.1:(\d+)/ .*\n", self.log.read_text())
        self.said, self.port = self.log.read_text(), int(found[1])
        key = uuid.UUID(int=9)
        frames = {
            page: Sender(self.port, f"/frames?page={page}&key={key}", '{"set": {}}', '"settings"')
            for page in ("slopes", "operator", "bias", "blocks", "microscope")
        }
        self.senders = {"dash": Sender(self.port, SOCKET, '{"type": "heartbeat"}', "heartbeat_ack"), **frames}
        self.counted = count()

    def post(self, text):
        """The status of a call over HTTP."""
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            text = json.dumps(json.loads(text)["payload"])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", HTTP, text.encode(), {"content-type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    def say(self, page, text):
        """True if the message was accepted. Every second call of a callback is sent over HTTP."""
        if page == "dash" and next(self.counted) % 2:
            status = self.post(text)
            assert status in (200, 204, 400)
            return status != 400
        return self.senders[page].send(text)

    @property
    def memory(self):
        return psutil.Process(self.process.pid).memory_info().rss

    def stop(self):
        for sender in self.senders.values():
            sender.close()
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture
def lab(tmp_path):
    running = Mutated(tmp_path)
    yield running
    running.stop()


def test_nothing_is_unhandled_and_memory_stays(lab):
    taken, memory = 0, []
    for i, (page, text) in enumerate(mutants(COUNT, seed=1)):
        taken += lab.say(page, text)
        if i % TENTH == TENTH - 1:
            memory.append(lab.memory)
    print(f"{taken} of {COUNT} taken; memory in MB: {[round(each / 1e6) for each in memory]}")
    assert COUNT / 20 < taken < COUNT / 2
    assert lab.process.poll() is None
    assert lab.log.read_text() == lab.said
    assert memory[-1] - memory[len(memory) // 2] < ROOM

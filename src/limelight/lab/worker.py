"""The loop of a worker process: it steps its simulation, handles messages, and sends frames on request.

Messages are JSON. In: {"do": "frame", "after": n}, and {"do": …} with "play", "pause", "step", "reset", "change" or
"act". Out: one frame for each "frame" message, as soon as it is newer than n, or unchanged after two seconds.

A simulation plays, and works on its pictures, only while its page requests frames. A page that nobody sees requests
none: its worker waits for the next message, takes no processor time, and goes on from the same step when the page is
seen again.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from plotly.graph_objects import Figure

from limelight.errors import LimelightError
from limelight.lab.simulation import Change, Simulation, load

_PATIENCE = 2.0  # seconds after which an unchanged frame is sent, so that the page knows that the worker lives
_ATTENTION = 2.0  # seconds after a request for a frame in which the simulation plays, while the page draws the last one
_BURST = 0.02  # seconds of steps between two checks for messages
_LEISURE = 2.0  # seconds left for the first drawing of a page


def main(connection: Connection, module: str, values: dict[str, Any]) -> None:
    """Run the `SIMULATION` of this module until the page is closed: the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the server, which ends its workers
    import torch  # here, since the server imports this module and does without torch

    torch.set_num_threads(1)
    if "torch._dynamo" not in sys.modules:  # which an optimizer's first step imports; see `preload`
        later = threading.Timer(_LEISURE, importlib.import_module, ["torch._dynamo"])
        later.daemon = True
        later.start()
    try:
        Player(connection, load(module), values).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        connection.close()


def _drawn(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {place: json.loads(figure.to_json()) for place, figure in figures.items()}


class Player:
    """A `Simulation` with its playing state, and the frames that its page has requested."""

    def __init__(self, connection: Connection, kind: type[Simulation], values: dict[str, Any]) -> None:
        self._connection, self._kind = connection, kind
        self._live = kind(values)
        self._playing, self._due = False, 0.0
        self._version, self._whole, self._shown = 0, True, -1
        self._anew: set[str] = set()  # pictures to redraw as a whole, if not all of them
        self._sent: dict[str, str] = {}  # the last update of each picture
        self._listed: dict[str, Any] = {}  # the last choices sent
        self._note = ""
        self._asked: tuple[int, float] | None = None  # the requested frame is newer than this; deadline
        self._seen_until = 0.0  # the time at which the page is taken to be hidden, unless it requests a frame

    def run(self) -> None:
        while True:
            if self._is_seen and self._live.has_work:
                self._work()
            elif self._advances:
                self._play()
            self._answer()
            while self._connection.poll(self._wait()):
                self._handle(json.loads(self._connection.recv_bytes()))
                self._answer()

    @property
    def _is_seen(self) -> bool:
        return self._asked is not None or time.monotonic() < self._seen_until

    @property
    def _advances(self) -> bool:
        """True if the simulation plays and its page is seen."""
        return self._playing and self._is_seen

    def _wait(self) -> float | None:
        """Seconds until there is something to do without a message, or None if there will be nothing."""
        now = time.monotonic()
        until = [] if self._asked is None else [self._asked[1] - now]
        if self._advances:
            until.append(self._due - now)
        if self._is_seen and self._live.has_work:
            until.append(now)
        return max(min(until), 0.0) if until else None

    def _work(self) -> None:
        try:
            self._anew.update(self._live.work())
        except LimelightError as problem:
            self._note = str(problem)
        self._version += 1

    def _play(self) -> None:
        """Take the steps that are due, for at most `_BURST` seconds."""
        start = time.monotonic()
        while self._playing and self._due <= (now := time.monotonic()) < start + _BURST:
            self._due = max(self._due + 1 / self._live.rate, now - _BURST)
            self._step()

    def _step(self) -> None:
        try:
            on = self._live.step()
        except LimelightError as problem:
            on, self._note = False, str(problem)
        self._playing = self._playing and on
        self._version += 1

    def _handle(self, message: dict[str, Any]) -> None:
        what = message["do"]
        if what == "change" and not self._live.differing(message["values"]):
            return
        if what == "frame":
            after = int(message["after"])
            self._whole = self._whole or after != self._shown  # the page lacks the last frame sent
            now = time.monotonic()
            self._asked, self._seen_until = (after, now + _PATIENCE), now + _ATTENTION
            return
        self._version += 1
        self._note = ""
        try:
            self._do(what, message)
        except LimelightError as problem:
            self._note = str(problem)

    def _do(self, what: str, message: dict[str, Any]) -> None:
        if what == "play":
            self._playing, self._due = True, time.monotonic()
        elif what == "pause":
            self._playing = False
        elif what == "step":
            self._playing = False
            self._step()
        elif what == "reset":
            self._playing, self._whole = False, True
            self._live = self._kind(self._live.values)
        elif what == "change":
            self._anew.update(self._live.change(message["values"]))
        elif what == "act":
            self._note = self._live.handle_action(message["name"], message["given"])
            self._whole = self._live.actions_redraw or self._whole

    def _answer(self) -> None:
        if self._asked is None:
            return
        after, until = self._asked
        if after == self._version and not self._whole and time.monotonic() < until:
            return
        self._asked = None
        self._connection.send_bytes(self._frame(after).encode())

    def _frame(self, after: int) -> str:
        frame: dict[str, Any] = {"n": self._version, "playing": self._playing, "note": self._note}
        frame["words"] = dict(self._live.labels())
        choices = dict(self._live.choices())
        if self._whole or choices != self._listed:
            frame["choices"] = self._listed = choices
        updates = None if self._whole else {} if after == self._version else self._live.updates()
        if updates is None:
            self._sent.clear()
            frame["figures"] = _drawn(self._live.figures())
        else:
            for place in self._anew:
                self._sent.pop(place, None)
            if self._anew:
                figures = self._live.figures()
                frame["figures"] = _drawn({place: figures[place] for place in self._anew})
            frame["updates"] = {
                place: changes for place, changes in updates.items() if self._needs_sending(place, changes)
            }
        self._whole, self._shown = False, self._version
        self._anew.clear()
        return json.dumps(frame)

    def _needs_sending(self, place: str, changes: Sequence[Change]) -> bool:
        """True if these changes differ from the last ones sent. Drawing a picture again would delay the next frame."""
        update = json.dumps(changes)
        if place in self._anew or self._sent.get(place) == update:
            return False
        self._sent[place] = update
        return True

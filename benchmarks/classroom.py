"""Time and memory of the lab with many visitors at once: `python -m benchmarks.classroom`

Many visitors open a page of one lab at once, over its websocket, and start its simulation; then all hide their pages;
then all leave. Nothing is drawn, since the machine of each visitor would do that. The visitors of the benchmark share
this machine's cores with the server and its workers. It needs Linux, whose /proc shows unshared memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from websockets.asyncio.client import ClientConnection, connect

_SETTLING = 5.0  # seconds between starting or hiding the pages and counting frames and processor time
_NUMBER = re.compile(
    r'\{"n": (\d+)'
)  # the number of a frame; parsing all of its JSON would take time on the cores that are measured
_PAGES = {"slopes": {}, "bias": {}, "operator": {"process": "circle", "bandwidth": 0.2, "speed": 60}}
_HEADINGS = (
    "page", "visitors", "frames/s", "private MB", "proportional MB", "fork server MB", "first frame s",
    "CPU ms a frame: worker, server", "cores of others", "hidden: CPU, frames", "worker ended after s",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The measurements of one page. Rates are frames per second, memory is in MB (2²⁰ bytes), one for each visitor."""

    page: str
    rates: Sequence[float]
    private: Sequence[float]  # memory that a worker shares with no other process
    proportional: Sequence[float]  # the same plus the worker's share of its shared memory
    shared: float  # resident memory of the process that workers are forked from
    first_frame: Sequence[float]  # seconds from opening the page
    worker_ms: float  # processor time of a worker for each frame, training included
    server_ms: float
    others: float  # cores that other programs used meanwhile
    hidden_cpu: float  # processor time of all workers, in percent of a core, while all pages are hidden
    hidden_frames: int  # frames that they sent meanwhile
    gone: float  # seconds between the leaving of all visitors and the end of the last worker


class _Visitor:
    """A page whose simulation runs: it requests the next frame when it has received one."""

    def __init__(self, page: str, seed: int) -> None:
        self._page, self._seed = page, seed
        self.frames, self.first_frame = 0, 0.0
        self.is_hidden = False

    async def open(self, address: str) -> None:
        start = time.perf_counter()
        where = f"{address.replace('http', 'ws')}frames?page={self._page}&key={uuid.uuid4()}"
        self._socket: ClientConnection = await connect(where, origin=address.rstrip("/"), max_size=None)  # type: ignore[arg-type]
        await self._say({"after": -1, "values": {"seed": self._seed, **_PAGES[self._page]}})
        self._n = await self._heard()
        self.first_frame = time.perf_counter() - start
        await self._say({"press": "play"})
        self._playing = asyncio.create_task(self._play())

    async def _play(self) -> None:
        while True:
            if not self.is_hidden:
                await self._say({"after": self._n})
            self._n = await self._heard()
            self.frames += 1

    async def _say(self, message: object) -> None:
        await self._socket.send(json.dumps(message))

    async def _heard(self) -> int:
        answer = str(await self._socket.recv())
        number = _NUMBER.match(answer)
        if number is None:
            raise RuntimeError(f"expected a frame, got: {answer[:200]}")
        return int(number[1])

    async def leave(self) -> None:
        self._playing.cancel()
        await self._socket.close()


@contextmanager
def _lab(visitors: int) -> Iterator[tuple[psutil.Process, str]]:
    """The server's process and its address."""
    with tempfile.TemporaryDirectory() as results:
        options = ["--no-browser", "--port", "0", "--sessions", str(visitors), "--results", results]
        process = subprocess.Popen(
            [sys.executable, "-m", "limelight", "lab", *options], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        try:
            yield psutil.Process(process.pid), found[0]
        finally:
            process.terminate()
            process.wait()


def _workers(lab: psutil.Process) -> list[psutil.Process]:
    """The workers: the children of the processes that the lab started."""
    return [worker for each in lab.children() for worker in each.children()]


def _memory(pid: int) -> dict[str, float]:
    """The memory of a process in MB, by the names in Linux's smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {name.rstrip(":"): int(kb) / 1024 for name, kb, *_ in map(str.split, lines)}


def _cpu(processes: Sequence[psutil.Process]) -> float:
    """The processor time of these processes, in seconds."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


@dataclass(frozen=True)
class _Moment:
    """Counts at one time: the frames sent to each visitor, and seconds of processor time."""

    time: float
    frames: Sequence[int]
    workers: float
    server: float
    others: float

    @classmethod
    def now(cls, visitors: Sequence[_Visitor], workers: Sequence[psutil.Process], lab: psutil.Process) -> _Moment:
        machine = psutil.cpu_times()
        spent = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice  # these count twice
        own, server = _cpu(workers), _cpu([lab])
        others = spent - own - server - _cpu([psutil.Process()])
        return cls(time.perf_counter(), [each.frames for each in visitors], own, server, others)


async def _measure(page: str, number: int, seconds: float, lab: psutil.Process, address: str) -> Found:
    visitors = [_Visitor(page, seed) for seed in range(number)]
    await asyncio.gather(*(each.open(address) for each in visitors))
    workers = _workers(lab)
    assert len(workers) == number
    moments = []
    for hidden in (False, True):
        for each in visitors:
            each.is_hidden = hidden
        for wait in (_SETTLING, seconds):
            await asyncio.sleep(wait)
            moments.append(_Moment.now(visitors, workers, lab))
        if not hidden:
            memory = [_memory(each.pid) for each in workers]
            shared = workers[0].parent().memory_info().rss / 2**20
    await asyncio.gather(*(each.leave() for each in visitors))
    left = time.perf_counter()
    while _workers(lab):
        await asyncio.sleep(0.05)
    gone = time.perf_counter() - left
    seen, seen_end, unseen, unseen_end = moments
    took, counts = seen_end.time - seen.time, [b - a for a, b in zip(seen.frames, seen_end.frames, strict=True)]
    return Found(
        page=page,
        rates=[count / took for count in counts],
        worker_ms=1000 * (seen_end.workers - seen.workers) / sum(counts),
        server_ms=1000 * (seen_end.server - seen.server) / sum(counts),
        others=(seen_end.others - seen.others) / took,
        private=[each["Private_Clean"] + each["Private_Dirty"] for each in memory],
        proportional=[each["Pss"] for each in memory],
        shared=shared,
        first_frame=[each.first_frame for each in visitors],
        hidden_cpu=100 * (unseen_end.workers - unseen.workers) / (unseen_end.time - unseen.time),
        hidden_frames=sum(unseen_end.frames) - sum(unseen.frames),
        gone=gone,
    )


def _row(found: Found) -> str:
    def three(values: Sequence[float], digits: int) -> str:
        return " / ".join(f"{each:.{digits}f}" for each in (min(values), statistics.median(values), max(values)))

    cells = [
        found.page, str(len(found.rates)), three(found.rates, 1), three(found.private, 0), three(found.proportional, 0),
        f"{found.shared:.0f}", three(found.first_frame, 1),
        f"{found.worker_ms:.1f}, {found.server_ms:.1f}", f"{found.others:.1f}",
        f"{found.hidden_cpu:.1f} %, {found.hidden_frames}", f"{found.gone:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    options = _options()
    found = []
    print("Three numbers are the minimum, the median and the maximum over the visitors.\n")
    print(f"| {' | '.join(_HEADINGS)} |\n|{'---|' * len(_HEADINGS)}")
    for page in options.pages:
        with _lab(options.visitors) as (lab, address):
            time.sleep(options.wait)
            found.append(asyncio.run(_measure(page, options.visitors, options.seconds, lab, address)))
        print(_row(found[-1]), flush=True)
    if options.json is not None:
        run = {"cores": os.cpu_count(), "python": sys.version.split()[0], "pages": [asdict(each) for each in found]}
        options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pages", nargs="+", choices=list(_PAGES), default=list(_PAGES), help="pages to open")
    parser.add_argument("--visitors", type=int, default=32, help="visitors at once")
    parser.add_argument("--seconds", type=float, default=10, help="seconds for which frames are counted")
    parser.add_argument(
        "--wait", type=float, default=0, help="seconds between the start of the lab and the first visitor"
    )
    parser.add_argument("--json", type=Path, help="a file for all numbers")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""The speed of the lab in headless Chromium on this machine: `python -m benchmarks.lab`

The browser, WebGL in software, the server and its workers share the machine's cores, so a visitor gets at least this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from websockets.asyncio.client import connect

_SWITCHES = [
    "--no-sandbox", "--disable-background-networking", "--no-first-run", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
_SETTLING = 5.0  # seconds, until all workers run
_SERVERS = 2  # the server's other processes: the one that workers are forked from, and Python's resource tracker
_FRAMES = "window.limelight ? limelight.statistics.frames : 0"
# Milliseconds in the page from a step of a slider, or a key that moves the chosen point, to the changed picture.
_LATENCY = """
([what, place]) => new Promise((resolve) => {
  const slider = document.querySelector(`input[id*='"${what}"']`), start = performance.now();
  for (const event of ["lab:drawn", "lab:renewed"]) {
    document.getElementById(place).addEventListener(event, () => resolve(performance.now() - start), { once: true });
  }
  if (!slider) {
    document.getElementById(place).dispatchEvent(new KeyboardEvent("keydown", { key: what, bubbles: true }));
    return;
  }
  const value = Number(slider.value) + (Number(slider.value) > Number(slider.min) ? -1 : 1) * Number(slider.step);
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, String(value));
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  slider.dispatchEvent(new Event("change", { bubbles: true }));
})
"""

_INPUTS = (
    ("slopes", "temperature", "slopes-gate"),
    ("slopes", "experts", "slopes-weights"),
    ("operator", "ArrowUp", "operator-plane"),
)

# The time at which the page was painted with its settings and texts.
_SEEN = """
const look = () => {
  if (!document.getElementById("play")) { requestAnimationFrame(look); return; }
  requestAnimationFrame(() => setTimeout(() => { window.seen = performance.timeOrigin + performance.now(); }));
};
look();
"""

_NO_DRAWING = """
for (const kind of [WebGLRenderingContext, WebGL2RenderingContext]) {
  for (const name of ["drawArrays", "drawElements", "clear"]) { kind.prototype[name] = () => {}; }
}
"""


@contextmanager
def _server() -> Any:
    """(process, address, seconds until it answered)."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "limelight", "lab", "--no-browser", "--port", "0", "--results", results]
        start = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        try:
            yield psutil.Process(process.pid), found[0], time.perf_counter() - start
        finally:
            process.terminate()
            process.wait()


def _until(page: Page, expression: str) -> None:
    while not page.evaluate(expression):
        page.wait_for_timeout(20)


def _open(browser: Browser, address: str, path: str, width: int = 1280, idle: bool = False) -> Page:
    """The page after its first frame. With `idle` WebGL draws nothing, as if a graphics card took no time."""
    page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
    if idle:
        page.add_init_script(_NO_DRAWING)
    page.goto(address + path)
    _until(page, _FRAMES)
    return page


def _play(page: Page) -> None:
    page.get_by_role("button", name="Play", exact=True).click()


def _updates(pages: list[Page], seconds: float) -> list[float]:
    """Frames drawn per second, for each page."""
    before, start = [page.evaluate(_FRAMES) for page in pages], time.perf_counter()
    pages[0].wait_for_timeout(1000 * seconds)
    after, took = [page.evaluate(_FRAMES) for page in pages], time.perf_counter() - start
    return [(b - a) / took for a, b in zip(before, after, strict=True)]


async def _served(address: str, visitors: int, seconds: float) -> list[float]:
    """Frames per second that are sent to each of several training visitors, while nothing is drawn on this machine."""

    async def visit(seed: int) -> float:
        where = f"{address.replace('http', 'ws')}frames?page=slopes&key={uuid.uuid4()}"
        async with connect(where, origin=address.rstrip("/"), max_size=None) as socket:  # type: ignore[arg-type]
            ask = {"after": -1, "values": {"seed": seed}}
            await socket.send(json.dumps(ask))
            await socket.recv()
            await socket.send(json.dumps({"press": "play"}))
            times: list[float] = []
            while not times or times[-1] - times[0] < seconds + _SETTLING:
                ask["after"] = max(int(ask["after"]), 0)
                await socket.send(json.dumps(ask))
                ask["after"] = json.loads(await socket.recv())["n"]
                times.append(time.perf_counter())
        return sum(at - times[0] >= _SETTLING for at in times) / (times[-1] - times[0] - _SETTLING)

    return list(await asyncio.gather(*map(visit, range(visitors))))


def _memory(process: psutil.Process) -> float:
    """The unshared memory of the server and its workers, in MiB."""
    return sum(each.memory_full_info().uss for each in [process, *process.children(recursive=True)]) / 2**20


def main() -> None:
    options = _options()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=options.chromium, args=_SWITCHES)
        with _server() as (process, address, answered):
            start = time.time()
            page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.add_init_script(_SEEN)
            page.goto(address + "slopes")
            _until(page, _FRAMES)
            drawn, shown = time.time() - start, page.evaluate("seen / 1000") - start
            print(f"start: answers after {answered:.1f} s; the page {shown:.1f} s later, its pictures {drawn:.1f} s")
            for path, what, place in _INPUTS:
                page.context.close()
                page = _open(chromium, address, path)
                page.wait_for_timeout(2000)  # until its worker has loaded everything
                took = [page.evaluate(_LATENCY, [what, place]) for _ in range(9)]
                found = f"{statistics.median(took):.0f} ms (most {max(took):.0f})"
                print(f"{path}: from {what!r} to its picture {found}", flush=True)
            for path in options.pages:
                for idle in (False, True):
                    page.context.close()
                    page = _open(chromium, address, path, idle=idle)
                    _play(page)
                    page.wait_for_timeout(2000)
                    without = ", WebGL's drawing left out" if idle else ""
                    print(f"{path}: {_updates([page], options.seconds)[0]:.1f} updates a second{without}", flush=True)
            grown = _growth(page, process, address, options.minutes)
            print(f"memory: {grown:+.0f} MiB in {options.minutes:g} minutes of training")
            page.context.close()
            while len(process.children(recursive=True)) > _SERVERS:  # until its worker has ended
                time.sleep(0.05)
            gone = _closed(chromium, process, address)
            print(f"the worker of a closed tab has ended after {gone:.1f} s")
            for idle in (False, True):
                pages = [_open(chromium, address, f"slopes?seed={i}", 400, idle) for i in range(options.visitors)]
                for each in pages:
                    _play(each)
                rates = _updates(pages, options.seconds)
                without = ", WebGL's drawing left out" if idle else ""
                found = f"{min(rates):.1f} to {max(rates):.1f} updates a second each{without}"
                print(f"{len(pages)} visitors in one browser on this machine: {found}")
                for each in pages:
                    each.context.close()
        chromium.close()
    with _server() as (_, address, _):  # after Playwright, which has an event loop of its own
        rates = asyncio.run(_served(address, options.visitors, options.seconds))
        print(
            f"{len(rates)} visitors, served but not drawn: {min(rates):.1f} to {max(rates):.1f} updates a second each"
        )


def _growth(page: Page, process: psutil.Process, address: str, minutes: float) -> float:
    page.goto(address + "slopes")
    _until(page, _FRAMES)
    _play(page)
    page.wait_for_timeout(30_000)  # until all caches are full
    before = _memory(process)
    page.wait_for_timeout(60_000 * minutes)
    return _memory(process) - before


def _closed(browser: Browser, process: psutil.Process, address: str) -> float:
    page = _open(browser, address, "slopes")
    page.context.close()
    start = time.perf_counter()
    while len(process.children(recursive=True)) > _SERVERS:
        time.sleep(0.05)
    return time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    pages = ["slopes", "operator?process=circle&bandwidth=0.2&speed=60", "bias"]
    parser.add_argument("--pages", nargs="+", default=pages, help="pages to open")
    parser.add_argument("--seconds", type=float, default=10, help="seconds for which updates are counted")
    parser.add_argument("--minutes", type=float, default=10, help="minutes for which memory is measured")
    parser.add_argument("--visitors", type=int, default=8, help="visitors at once")
    return parser.parse_args()


if __name__ == "__main__":
    main()

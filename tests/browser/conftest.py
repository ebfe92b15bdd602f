"""Fixtures: Chromium, a lab in its own process, and a page that records its requests."""

import re
import subprocess
import sys
import time

import pytest

from tests.chromium import CHROMIUM, SWITCHES

PATIENCE = 180  # seconds, on a busy machine


@pytest.fixture(scope="package")  # its event loop would disturb other tests
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Debian's Chromium: `apt-get install chromium`, or its path in $CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield chromium
        chromium.close()


class Lab:
    """`limelight lab` on a free port, or on the same port as before."""

    def __init__(self, results):
        self.results, self.port = results, 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "limelight", "lab", "--no-browser", "--port", str(self.port), "--results",
                   str(self.results)]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        assert found, said + self.process.stderr.read()
        self.address, self.port = found[0], int(found[1])

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.process.stderr.close()


@pytest.fixture(scope="package")
def lab(tmp_path_factory, browser):
    running = Lab(tmp_path_factory.mktemp("results"))
    yield running
    running.stop()


class Visitor:
    """A page in its own browser, with its requests and its error messages."""

    def __init__(self, browser, script="", **options):
        self.context = browser.new_context(**options)
        self.context.add_init_script(script)  # runs before those of the page
        self.page, self.asked, self.complaints = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )

    def open(self, address, width=1280, scheme="light"):
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.goto(address)
        return self

    def leave(self):
        """Close the page, and delete what it stored in the browser."""
        self.page.evaluate("localStorage.clear(), sessionStorage.clear()")
        self.page.goto("about:blank")
        self.context.clear_cookies()
        self.asked.clear()
        self.complaints.clear()

    @property
    def frames(self):
        return self.page.evaluate("window.limelight ? limelight.statistics.frames : 0")

    def until(self, true, what):
        """Wait for a condition. (The page's policy forbids Playwright's own way, which evaluates text.)"""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"{what} has not come about in {PATIENCE} s"
            self.page.wait_for_timeout(50)

    def drawn(self):
        self.until(lambda: self.frames > 0, "a first frame")
        return self

    def fits(self):
        return self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="package")
def idle():
    """Visitors whose test is over. A browser that has read the scripts once opens the next page in half the time."""
    return []


@pytest.fixture
def visit(lab, browser, idle):
    """Open a path of the lab, each time in a browser of its own."""
    visitors, others = [], []

    def open_page(path, script="", **options):
        if script:
            others.append(Visitor(browser, script))
            return others[-1].open(lab.address + path.lstrip("/"), **options)
        visitors.append(idle.pop() if idle else Visitor(browser))
        return visitors[-1].open(lab.address + path.lstrip("/"), **options)

    yield open_page
    for visitor in visitors:
        visitor.leave()
    idle.extend(visitors)
    for visitor in others:
        visitor.context.close()

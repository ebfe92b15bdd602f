"""Screenshots for docs/images of the report, the heads of a model, and the lab.

    python -m docs.photographs results/report.html results/heads.html

The pages are those of `make demo` and `make microscope`; one that is not given is not photographed anew. Needs Debian's
Chromium. The lab is started here, and its networks learn for ten seconds.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from docs.pictures import CHROMIUM, IMAGES, SWITCHES
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SCHEMES = ("light", "dark")
PATIENCE = 240_000  # milliseconds: without a graphics card surfaces take their time
LAB = {"slopes": "slopes?rate=0.05", "operator": "operator?n=40&bandwidth=0.4"}


def report(browser: Browser, file: Path) -> None:
    """The report on the claim about slopes."""
    for scheme in SCHEMES:
        page = browser.new_page(viewport={"width": 1160, "height": 1220}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        page.goto(file.resolve().as_uri())
        section = page.locator("#slopes")
        section.scroll_into_view_if_needed()
        page.locator("#slopes .plot[data-drawn]").nth(4).wait_for()
        page.wait_for_timeout(1500)  # until the surfaces are drawn finely
        top = section.evaluate("s => s.getBoundingClientRect().top + scrollY")
        page.evaluate(f"scrollTo(0, {top})")
        page.wait_for_timeout(500)
        page.screenshot(path=IMAGES / f"report-{scheme}.png")


def heads(browser: Browser, file: Path) -> None:
    """The page of all heads, with one that attends to earlier occurrences of a word."""
    for scheme in SCHEMES:
        page = browser.new_page(viewport={"width": 1160, "height": 1290}, color_scheme=scheme)
        page.goto(file.resolve().as_uri())
        page.get_by_role("button", name="layer 2, head 9", exact=False).first.click()
        page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
        page.wait_for_timeout(1000)
        page.screenshot(path=IMAGES / f"heads-{scheme}.png")


def lab(browser: Browser) -> None:
    """The lab's pages of slopes and of the operator, at twice the resolution and in 256 colors."""
    command = [sys.executable, "-m", "limelight", "lab", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = re.search(r"http://\S+/", server.stderr.readline())
            assert address
            for name, path in LAB.items():
                for scheme in SCHEMES:
                    page_of_the_lab(browser, address[0] + path, scheme, IMAGES / f"lab-{name}-{scheme}.png")
        finally:
            server.terminate()


def page_of_the_lab(browser: Browser, address: str, scheme: str, file: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme=scheme, device_scale_factor=2)
    page.goto(address)
    page.locator(".plot[data-drawn]").nth(3).wait_for()
    if "/slopes" in address:
        play(page, 10)
    page.mouse.move(5, 400)
    page.wait_for_timeout(3000)  # surfaces that stand still are drawn finely
    full = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    full.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    page.close()


def play(page: Page, seconds: float) -> None:
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_timeout(1000 * seconds)
    page.get_by_role("button", name="Pause", exact=True).click()


if __name__ == "__main__":
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        for name, photograph in {"report.html": report, "heads.html": heads}.items():
            for file in map(Path, sys.argv[1:]):
                if file.name == name:
                    photograph(browser, file)
        lab(browser)
        browser.close()

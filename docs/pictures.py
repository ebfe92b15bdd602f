"""The README's pictures, taken of a report: `python docs/pictures.py results/report.html`. Needs Debian's Chromium."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SWITCHES = ["--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WIDTH, HEIGHT = 1160, 1220


def main(report: Path) -> None:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.goto(report.resolve().as_uri())
            section = page.locator("#slopes")
            section.scroll_into_view_if_needed()
            page.locator("#slopes .plot[data-drawn]").nth(4).wait_for()
            page.wait_for_timeout(1500)  # the surfaces settle
            top = section.evaluate("s => s.getBoundingClientRect().top + scrollY")
            page.evaluate(f"scrollTo(0, {top})")
            page.wait_for_timeout(500)
            page.screenshot(path=Path(__file__).parent / "images" / f"report-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

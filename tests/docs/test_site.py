"""The site builds without a warning, loads nothing from elsewhere, and can be searched when opened as a file."""

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from inspect import ismodule
from pathlib import Path

import pytest

from tests.chromium import CHROMIUM, SWITCHES

ROOT = Path(__file__).parents[2]
SOURCES = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module, reason="needs MkDocs: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


class Sources(HTMLParser):
    """What a page would load, and the classes and functions that it documents."""

    def __init__(self, page):
        super().__init__()
        self.loaded, self.objects = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in SOURCES and given.get(SOURCES[tag]):
            self.loaded.append(given[SOURCES[tag]])
        if "doc-heading" in (given.get("class") or ""):
            self.objects.add((given.get("id") or "").rpartition(".")[2])


def test_it_builds_and_has_every_page(site):
    for source in (ROOT / "docs").rglob("*.md"):
        assert (site / source.relative_to(ROOT / "docs")).with_suffix(".html").exists(), source


def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        sources = Sources(page).loaded
        assert sources
        for source in sources:
            assert not re.match(r"(https?:)?//", source), f"{page}: {source}"
            if not source.startswith(("data:", "#")):
                assert (page.parent / re.sub("[?#].*", "", source)).exists() or page.name == "404.html", source
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_everything_public_is_on_a_page_of_the_api(site):
    import limelight
    import limelight.classical
    import limelight.continuum
    import limelight.distributed
    import limelight.huggingface
    import limelight.nn

    found = set().union(*(Sources(page).objects for page in (site / "api").glob("*.html")))
    packages = (limelight, limelight.classical, limelight.continuum, limelight.huggingface, limelight.nn)
    packages += (limelight.distributed,)
    public = {name for package in packages for name in package.__all__ if not ismodule(getattr(package, name))}
    assert public - {"__version__"} <= found


def test_shapes_are_printed_as_they_were_written(site):
    page = (site / "api" / "operator.html").read_text(encoding="utf-8")
    assert "q (*batch, n, d) and k (*batch, m, d) share dtype and device" in page


def test_examples_are_printed_as_code(site):
    for name in ("operator", "mask", "similarity", "normalization", "propagation", "continuum", "experiment"):
        page = (site / "api" / f"{name}.html").read_text(encoding="utf-8")
        assert '<span class="gp">&gt;&gt;&gt; ' in page, name
        assert "<blockquote>" not in page, name  # Markdown turns a line that begins with > into this


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("needs Debian's Chromium: `apt-get install chromium`, or its path in $CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def served(site):
    """The address of the site on a web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("start", "width", "scheme"), [pytest.param("file", 400, "light", marks=pytest.mark.slow), ("http", 1280, "dark")]
)
def test_it_can_be_read_and_searched_without_a_network(chromium, site, served, start, width, scheme):
    root = site.as_uri() if start == "file" else served
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    for name in ("ideas", "methods", "api/operator") if start == "file" else ("index",):
        page.goto(f"{root}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        shown = [picture for picture in page.locator("article img").all() if picture.is_visible()]
        assert all(picture.evaluate("i => i.decode().then(() => i.naturalWidth > 0)") for picture in shown), name
        assert all(scheme in picture.get_attribute("src") for picture in shown)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    if width < 1000:
        page.locator("label.md-header__button[for=__search]").click()
    page.locator("[data-md-component=search-query]").press_sequentially("sparsemax")
    page.locator('.md-search-result__link[href*="api/normalization.html"]').first.wait_for(state="attached")
    context.close()
    assert complaints == []
    assert {address for address in asked if not address.startswith((root, "data:", "blob:"))} == set()

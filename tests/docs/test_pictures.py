"""The pictures in the pages are those that `docs/pictures.py` draws, and their files are small."""

import importlib.util
import os
import re
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
PAGES = ("report-", "lab-", "heads-")
MOST = 150_000  # bytes


@pytest.fixture(scope="module")
def pictures():
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures(pictures):
    """All figures except the one that needs ten seeds of a claim."""
    made = [make() for make, _, _ in pictures.PICTURES if make is not pictures.search]
    return {name: figure for group in made for name, figure in group.items()}


def drawn():
    """The names of the image files, without screenshots of pages and the icon."""
    return {path.name for path in (DOCS / "images").iterdir() if not path.name.startswith((*PAGES, "favicon"))}


def test_every_picture_is_there_light_and_dark(figures):
    names = {name.rpartition("-")[0] for name in drawn()}
    assert names == {*figures, "search", "packages"}
    assert len(drawn()) == 2 * len(names)


def test_every_picture_is_shown_and_has_words(figures):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    shown = re.findall(r"!\[([^\]]*)\]\((?:\.\./)?images/([^)#]+)#only-(light|dark)\)", pages)
    assert all(f"-{scheme}." in name for _, name, scheme in shown)
    assert all(len(words) > 30 for words, _, _ in shown)
    assert {name for _, name, _ in shown if not name.startswith(PAGES)} == drawn()


def test_every_picture_is_small():
    for name in drawn():
        assert (DOCS / "images" / name).stat().st_size < MOST, name


def test_the_captions_say_what_is_drawn(figures):
    heat = [trace.y for trace in figures["heat"].data if trace.name]
    assert [round(sum(row), 6) for row in heat] == [1, 1, 1]
    assert heat[0].max() > 2 * heat[1].max() > 3 * heat[2].max()
    weights = [trace.y for trace in figures["temperature"].data]
    assert weights[0][0] > 0.99
    assert max(row[-1] for row in weights) < 0.3
    softmax, doubly = (abs(figures[name].data[1].x[1] - figures[name].data[1].x[0]) for name in
                       ("drift-softmax", "drift-doubly"))  # fmt: skip
    assert doubly < softmax / 2


@pytest.mark.browser
@pytest.mark.parametrize(("name", "kind"), [("tails", "svg"), pytest.param("dot", "png", marks=pytest.mark.slow)])
def test_a_picture_has_the_text_color_of_its_page(pictures, figures, tmp_path, name, kind):
    if CHROMIUM is None:
        pytest.skip("needs Debian's Chromium: `apt-get install chromium`, or its path in $CHROMIUM")
    with pictures.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=pictures.SWITCHES)
        pictures.draw(browser, name, figures[name], 340, 300, tmp_path)
        browser.close()
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}-light.{kind}", f"{name}-dark.{kind}"}
    light, dark = (tmp_path / f"{name}-{scheme}.{kind}" for scheme in ("light", "dark"))
    assert light.read_bytes() != dark.read_bytes()
    for scheme, ink in pictures.INK.items() if kind == "svg" else ():
        red, green, blue = (2 * digit for digit in ink[1:])
        drawn = (tmp_path / f"{name}-{scheme}.svg").read_text(encoding="utf-8")
        assert f"rgb({int(red, 16)}, {int(green, 16)}, {int(blue, 16)})" in drawn

"""The report in a browser: it draws, loads nothing from elsewhere, and fits a phone."""

import pytest

from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.report import page as report
from limelight.report.entry import Entry
from tests.claims.brief import cut_short
from tests.experiment.toy import Toy

pytestmark = pytest.mark.browser


def reported(claim, folder):
    """A report of one seed of a claim."""
    for arm in claim.arms:
        run_trial(claim, arm, 0, folder)
    results = Store(folder).results(claim)
    path = folder / "report.html"
    path.write_text(report.render([Entry(claim, results, claim.verdict(results))]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A report with the claim whose pictures are in three dimensions."""
    with pytest.MonkeyPatch.context() as patched:
        return reported(cut_short("slopes", patched), tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def read(browser):
    """Open a report; returns the page, the addresses that it requested and its error messages."""
    contexts = []

    def open_page(file, width, scheme):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page, asked, complaints = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(file.as_uri())
        return page, asked, complaints

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("width", "scheme"), [pytest.param(400, "light", marks=pytest.mark.slow), (1280, "dark")])
def test_every_picture_is_drawn_and_nothing_is_asked_for(read, page_file, width, scheme):
    page, asked, complaints = read(page_file, width, scheme)
    pictures = page.locator(".plot")
    assert pictures.count() > 10
    for i in range(pictures.count()):
        pictures.nth(i).scroll_into_view_if_needed()
        page.wait_for_function("i => document.querySelectorAll('.plot')[i].dataset.drawn", arg=i, timeout=30_000)
    assert pictures.locator(".main-svg, canvas").count() >= pictures.count()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []
    assert {address for address in asked if not address.startswith("blob:")} == {page_file.as_uri()}


@pytest.fixture(scope="module")
def light(read, tmp_path_factory):
    """A report with a single picture."""
    return read(reported(Toy(), tmp_path_factory.mktemp("toys")), 1280, "light")


def test_a_reader_can_choose_light_or_dark(light):
    page, _, _ = light
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="light or dark").click()
    assert page.evaluate(paper) != light
    page.get_by_role("button", name="light or dark").click()
    assert page.evaluate(paper) == light


def test_the_policy_blocks_foreign_scripts(light):
    page, _, complaints = light
    inject = "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)"
    page.evaluate(f"() => {{ {inject}; }}")
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in complaint for complaint in complaints)

"""Every page of the lab before axe-core, light and dark: a screen reader, a keyboard and weak eyes can use it."""

import pytest

from limelight.experiment import catalog
from limelight.experiment.trial import run_trial
from tests.browser.conftest import Visitor

axe = pytest.importorskip("axe_playwright_python.base", reason="needs axe-core: pip install -e '.[dev]'")

pytestmark = pytest.mark.browser
# Besides what axe looks for unless it is told otherwise, the rule that what is seen is what is said.
EVERYTHING = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": True}}}
CONTRAST = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}  # all that a scheme can change
RUN = """async (options) => {
  const { violations } = await axe.run(options);
  const told = ({ id, impact, nodes }) => nodes.map(({ html }) => `${id} (${impact}): ${html.slice(0, 200)}`);
  return violations.flatMap(told);
}"""
JUDGED = "rank_collapse"  # half a second for a seed
PAGES = {
    "slopes": ".plot[data-drawn]",
    "operator": ".plot[data-drawn]",
    "bias": ".plot[data-drawn]",
    "verdicts": ".claims .effect-bar",
    f"verdicts?claim={JUDGED}": ".parts",
    "verdicts?claim=slopes": ".ruling",
    "nowhere": "h1",
}
SLOW = {"operator", "bias", "verdicts?claim=slopes"}  # in kind as those that stay


@pytest.fixture(scope="module")
def visitor(lab, browser):
    """A page whose policy lets axe in, which is no script of the lab's; and one claim has a verdict."""
    claim = catalog.claim(JUDGED)
    for arm in claim.arms:
        run_trial(claim, arm, 0, lab.results)
    one = Visitor(browser, bypass_csp=True)
    yield one
    one.context.close()


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] if path in SLOW else []) for path in PAGES]
)
def test_axe_finds_nothing(visitor, lab, path):
    visitor.open(lab.address + path)
    page = visitor.page
    page.locator(PAGES[path]).first.wait_for(state="attached", timeout=60_000)
    visitor.until(lambda: page.locator("[role=option]").count() == 0, "labels that are labels")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.evaluate(axe.AXE_SCRIPT)
    assert page.evaluate(RUN, EVERYTHING) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(RUN, CONTRAST) == []

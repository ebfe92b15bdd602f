"""axe-core finds no fault on any page of the lab, light or dark, for screen readers, keyboards and weak eyes."""

import pytest

from limelight.experiment import catalog
from limelight.experiment.trial import run_trial
from tests.browser.conftest import Visitor

axe = pytest.importorskip("axe_playwright_python.base", reason="needs axe-core: pip install -e '.[dev]'")

pytestmark = pytest.mark.browser
# In addition to axe's default rules, the rule that visible labels are part of accessible names.
EVERYTHING = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": True}}}
CONTRAST = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}  # all that depends on the color scheme
RUN = """async (options) => {
  const { violations } = await axe.run(options);
  const told = ({ id, impact, nodes }) => nodes.map(({ html }) => `${id} (${impact}): ${html.slice(0, 200)}`);
  return violations.flatMap(told);
}"""
JUDGED = "rank_collapse"  # takes half a second for each seed
PAGES = {
    "slopes": ".plot[data-drawn]",
    "operator": ".plot[data-drawn]",
    "bias": ".plot[data-drawn]",
    "blocks": ".plot[data-drawn]",
    "blocks?what=transformer": ".plot[data-drawn]",
    "microscope?ablate=mean": "#scope-map[data-drawn]",
    "verdicts": ".claims .effect-bar",
    f"verdicts?claim={JUDGED}": ".parts",
    "verdicts?claim=slopes": ".ruling",
    "nowhere": "h1",
}
SLOW = {
    "operator",
    "bias",
    "blocks?what=transformer",
    "verdicts?claim=slopes",
}  # the removed claims are like those that stay


@pytest.fixture(scope="module")
def visitor(lab, browser):
    """A page whose policy allows axe's script, and with a verdict for one claim."""
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
    page.locator(PAGES[path]).first.wait_for(state="attached", timeout=180_000)
    visitor.until(lambda: page.locator("[role=option]").count() == 0, "labels that are labels")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.evaluate(axe.AXE_SCRIPT)
    assert page.evaluate(RUN, EVERYTHING) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(RUN, CONTRAST) == []

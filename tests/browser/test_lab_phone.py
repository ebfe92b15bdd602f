"""On a phone the settings are under the picture that they change, and no elements overlap."""

import pytest

pytestmark = pytest.mark.browser

TOPS = """() => {
  const top = (place) => place.getBoundingClientRect().top;
  const pictures = [...document.querySelectorAll('.pictures > *')].map(top);
  const [panel, tour] = ['.panel', '.tour'].map((name) => top(document.querySelector(name)));
  return [pictures[0], panel, Math.min(...pictures.slice(1)), Math.max(...pictures.slice(1)), tour];
}"""
FLOATING = """() => [...document.querySelectorAll('#content *')].filter(
  (each) => ['fixed', 'sticky'].includes(getComputedStyle(each).position)).map((each) => each.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize(
    "path", ["operator", *(pytest.param(path, marks=pytest.mark.slow) for path in ("slopes", "bias", "blocks"))]
)
def test_settings_are_under_the_first_picture_and_above_the_rest(visit, path):
    visitor = visit(path, width=400).drawn()
    tops = visitor.page.evaluate(TOPS)
    assert tops == sorted(tops)
    assert visitor.page.evaluate(FLOATING) == []
    assert visitor.fits()
    visitor.page.get_by_role("button", name="Step", exact=True).click()
    visitor.until(lambda: "step 1" in visitor.page.inner_text(f"#{path}-step"), "a step")

"""The page of generative models in a browser."""

import re

import pytest

pytestmark = pytest.mark.browser


def press(visitor, name):
    visitor.page.get_by_role("button", name=name, exact=True).click()


def exact(visitor):
    return int(re.match(r"(\d+)%", visitor.page.inner_text("#blocks-said-exact"))[1])


def test_digits_are_drawn_and_then_letters_are_reversed(visit, lab):
    visitor = visit("blocks?length=4&rate=5&writing=200", width=400, scheme="dark").drawn()
    page = visitor.page
    visitor.until(lambda: page.locator("#blocks-walk[data-drawn]").count() == 1, "samples")
    assert page.locator("#blocks-walk .textpoint").count() == 8
    assert page.get_by_label("Digit to draw").is_visible()
    assert not page.locator("#blocks-cross").is_visible()
    assert not page.get_by_role("checkbox", name="Positions").is_visible()
    assert page.get_by_text("Steps per second, at most").count() == 2
    page.get_by_label("a Transformer, which writes backwards").check()
    visitor.until(lambda: page.locator("#blocks-cross[data-drawn]").count() == 1, "cross-attention")
    visitor.until(lambda: "what=transformer" in page.url, "the address")
    assert not page.locator("#blocks-walk").is_visible()
    assert not page.get_by_label("Digit to draw").is_visible()
    assert page.get_by_role("checkbox", name="Positions").is_visible()
    press(visitor, "Play")
    visitor.until(lambda: exact(visitor) > 80, "a reversal that is learned")
    assert "✓" in page.inner_text("#blocks-written")
    page.get_by_role("checkbox", name="Cross-attention").uncheck()
    visitor.until(lambda: exact(visitor) < 5, "nothing without cross-attention")
    visitor.until(lambda: "cross=off" in page.url, "the address")
    assert "switched off" in page.inner_text("#blocks-said-cross")
    press(visitor, "Reset")
    visitor.until(lambda: page.inner_text("#blocks-step").startswith("step 0 "), "a new beginning")
    assert visitor.fits()
    assert visitor.complaints == []
    assert all(address.startswith((lab.address, "blob:", "data:")) for address in visitor.asked)

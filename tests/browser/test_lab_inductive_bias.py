"""The page of biases in a browser."""

import re

import pytest

pytestmark = pytest.mark.browser


def accuracy(visitor, place):
    return float(visitor.page.inner_text(f"#bias-tested-{place}"))


def step(visitor):
    return int(re.search(r"\d+", visitor.page.inner_text("#bias-step"))[0])


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)])
def test_it_draws_at_once_and_loads_nothing_from_elsewhere(visit, lab, width, scheme):
    visitor = visit("bias", width=width, scheme=scheme).drawn()
    drawn = visitor.page.locator(".plot[data-drawn] .main-svg")
    visitor.until(lambda: visitor.page.locator(".plot[data-drawn]").count() == 6, "six pictures")
    assert drawn.count() >= 6
    assert visitor.page.locator("#bias-answers .textpoint").count() == 20 * 4
    assert visitor.fits()
    assert visitor.page.get_by_role("link", name="Bias").get_attribute("aria-current") == "page"
    assert visitor.complaints == []
    assert all(address.startswith((lab.address, "blob:", "data:")) for address in visitor.asked)


@pytest.mark.slow  # play and pause are tested on the page of slopes, what is learned in tests/lab/test_bias.py
def test_the_convolution_learns_of_few_images_and_the_answers_follow(visit):
    visitor = visit("bias?images=250&speed=200").drawn()
    answers = "[...document.querySelectorAll('#bias-answers .textpoint')].map((each) => each.textContent).join(' ')"
    before = visitor.page.evaluate(answers)
    visitor.page.get_by_role("button", name="Play", exact=True).click()
    visitor.until(lambda: accuracy(visitor, "conv") > 0.6, "a convolution that has learned")
    assert accuracy(visitor, "full") < 0.5
    visitor.page.get_by_role("button", name="Pause", exact=True).click()
    visitor.until(lambda: visitor.page.get_by_role("button", name="Play", exact=True).count() == 1, "a pause")
    after = visitor.page.evaluate(answers)
    assert after.count("✓") > before.count("✓")
    visitor.page.get_by_label("images shifted anywhere").check()
    visitor.until(lambda: "tested=shifted" in visitor.page.url, "the address")
    assert step(visitor) > 30
    assert visitor.complaints == []


@pytest.mark.slow
def test_a_click_on_an_image_is_remembered_and_a_link_restores_it(visit):
    visitor = visit("bias?kind=permuted&seed=3").drawn()
    visitor.until(lambda: visitor.page.locator("#bias-answers[data-listens]").count() == 1, "a picture that listens")
    third = visitor.page.locator("#bias-answers .textpoint").nth(2 * 4 + 1)
    third.scroll_into_view_if_needed()
    box = third.bounding_box()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 1)
    visitor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.until(lambda: "look=3" in visitor.page.url, "the address")
    visitor.until(lambda: "Test image 3 of 20" in visitor.page.inner_text("#bias-chosen"), "the third image")
    slider = visitor.page.get_by_label("Test image to look at")
    assert slider.input_value() == "3"
    slider.focus()
    slider.press("ArrowRight")
    visitor.until(lambda: "Test image 4 of 20" in visitor.page.inner_text("#bias-chosen"), "the next by the keyboard")
    other = visit(visitor.page.url.partition("//")[2].partition("/")[2]).drawn()
    assert other.page.get_by_label("Test image to look at").input_value() == "4"
    assert other.page.inner_text("#bias-said-conv") == visitor.page.inner_text("#bias-said-conv")
    assert other.page.inner_text("#bias-chosen") == visitor.page.inner_text("#bias-chosen")


def test_an_invalid_link_shows_a_sentence_and_the_page_works(visit):
    visitor = visit("bias?images=<img src=x onerror=alert(1)>&kind=sideways&look=99").drawn()
    wrong = visitor.page.inner_text("#wrong")
    assert "is not a number; 250 is used" in wrong
    assert "“sideways” is not one of" in wrong
    assert "99 is not between 1 and 20; 20 is used" in wrong
    assert visitor.page.locator("#wrong img").count() == 0
    assert "Test image 20 of 20" in visitor.page.inner_text("#bias-chosen")
    assert visitor.fits()

"""The page of the microscope in a browser: what is typed, chosen and pulled reaches the model and the address."""

import json

import pytest

pytestmark = pytest.mark.browser

TEXT = "<script>alert(1)</script> \u202e🧑\u200d🔬 אבג &amp; <b>x</b>"


def said(visitor, what):
    return visitor.page.inner_text(f"#scope-said-{what}")


def status(visitor):
    return visitor.page.inner_text("#microscope-step")


def at_field(visitor, kind, name):
    return visitor.page.evaluate("(id) => document.getElementById(id).textContent", f'{{"{kind}":"{name}"}}')


def read(visitor):
    visitor.until(lambda: " tokens, read in" in status(visitor), "a text that was read")
    visitor.until(lambda: visitor.page.locator(".plot[data-drawn] .main-svg").count() >= 4, "four pictures")
    return visitor


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)])
def test_a_text_is_typed_a_head_chosen_and_ablated(visit, lab, width, scheme):
    visitor = read(visit("microscope", width=width, scheme=scheme).drawn())
    page = visitor.page
    assert visitor.fits()
    assert page.get_by_role("button", name="Play", exact=True).count() == 0
    assert "in layer 1, head 0" in said(visitor, "heads")
    page.get_by_label("Head, by its layer and number").select_option("1.1")
    visitor.until(lambda: "Layer 1, head 1" in said(visitor, "map"), "the other head")
    page.get_by_label("becomes its mean over the text").check()
    visitor.until(lambda: "KL divergence" in said(visitor, "result"), "an effect")
    visitor.until(lambda: "head=1.1" in page.url and "ablate=mean" in page.url, "the address")
    page.get_by_label("Text to read").fill("A dog. A dog. A")
    visitor.until(lambda: "16 tokens" in status(visitor), "the new text")
    visitor.until(lambda: "text=A+dog.+A+dog.+A" in page.url, "the address")
    page.get_by_label("Token whose row is framed").select_option("3")
    visitor.until(lambda: "token 3," in said(visitor, "map"), "the third token")
    other = read(visit(page.url.partition("//")[2].partition("/")[2]).drawn())
    visitor.until(lambda: "KL divergence" in said(other, "result"), "the same view")
    assert other.page.get_by_label("Text to read").input_value() == "A dog. A dog. A"
    assert other.page.get_by_label("Head, by its layer and number").input_value() == "1.1"
    assert said(other, "result") == said(visitor, "result")
    assert visitor.complaints == []
    assert all(address.startswith((lab.address, "blob:", "data:")) for address in visitor.asked)


@pytest.mark.slow
def test_texts_that_cannot_be_used_are_reported_at_the_field_and_others_are_escaped(visit):
    visitor = read(visit("microscope").drawn())
    page, area = visitor.page, visitor.page.get_by_label("Text to read")
    for text, told in [("x" * 900, "900 characters"), ("y" * 5000, "5,000 characters"), (" ", "no words")]:
        area.fill(text)
        visitor.until(lambda told=told: told in at_field(visitor, "fault", "text"), "a sentence at the field")
        assert area.get_attribute("aria-invalid") == "true"
        assert area.input_value() == text  # it is not cut
        assert "54 tokens" in status(visitor)
    area.fill("z" * 300)
    visitor.until(lambda: "301 tokens" in at_field(visitor, "refused", "text"), "the model's sentence")
    area.fill(TEXT)
    visitor.until(lambda: f"{1 + len(TEXT.encode())} tokens" in status(visitor), "the odd text")
    assert not at_field(visitor, "fault", "text") + at_field(visitor, "refused", "text")
    assert page.evaluate("document.querySelectorAll('#content script, #content b').length") == 0
    tokens = page.evaluate(
        "(id) => [...document.getElementById(id).options].map((each) => each.text)", '{"list":"token"}'
    )
    assert "2 · <" in tokens
    assert not any("\u202e" in token for token in tokens)
    area.fill("<b>")  # so short that each token has its place at the axis
    visitor.until(lambda: page.locator("#scope-map .ytick").filter(has_text="<").count() > 0, "tokens at the axis")
    assert page.evaluate("document.querySelectorAll('#content b').length") == 0
    assert visitor.complaints == []


@pytest.mark.slow
def test_a_click_chooses_a_head_and_a_row_and_a_package_that_is_missing_is_reported(visit):
    visitor = read(visit("microscope?head=7.7&model=minilm").drawn())
    page = visitor.page
    visitor.until(lambda: "“7.7” is not among the choices" in at_field(visitor, "refused", "head"), "a sentence")
    if "not installed" in page.inner_text("#note"):
        assert "The model built by hand stands in for it" in page.inner_text("#note")
    page.get_by_label("built by hand: a language model of bytes").check()
    visitor.until(lambda: page.inner_text("#note") == "", "no more note")
    for place, share, address, told in (
        ("scope-heads", (0.25, 0.1), "head=0.3", "Layer 0, head 3"),
        ("scope-map", (0.5, 0.02), "token=1", "token 1,"),
    ):
        visitor.until(
            lambda place=place: page.locator(f"#{place}[data-listens]").count() == 1, "a picture that listens"
        )
        box = page.locator(f"#{place} .nsewdrag").first
        box.scroll_into_view_if_needed()
        size = box.bounding_box()
        page.mouse.move(size["x"] + share[0] * size["width"] + 1, size["y"] + share[1] * size["height"])
        page.mouse.click(size["x"] + share[0] * size["width"], size["y"] + share[1] * size["height"])
        visitor.until(lambda address=address: address in page.url, "the address")
        visitor.until(lambda told=told: told in said(visitor, "map"), "what was clicked")
    assert page.get_by_label("Head, by its layer and number").input_value() == "0.3"
    assert json.dumps(visitor.complaints) == "[]"

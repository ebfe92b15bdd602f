"""/operator in a browser: points are dragged and weights follow, also by keyboard; copies, links and refusals."""

import pytest

pytestmark = pytest.mark.browser

POINT = """(i) => {
  const plane = document.getElementById("operator-plane"), box = plane.getBoundingClientRect();
  const point = plane.calcdata.find(([first]) => first?.trace?.meta === "points")[i - 1];
  const { xaxis: x, yaxis: y } = plane._fullLayout;
  return [point.x, point.y, box.left + x._offset + x.d2p(point.x), box.top + y._offset + y.d2p(point.y)];
}"""
ROW = "(i) => [...document.getElementById('operator-matrix').calcdata[0][0].z[i - 1]]"
CODE = "() => document.getElementById('operator-code').textContent"


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), pytest.param(1280, "dark", marks=pytest.mark.slow)])
def test_it_draws_on_every_screen_and_loads_nothing_from_elsewhere(visit, lab, width, scheme):
    visitor = visit("operator", width=width, scheme=scheme).drawn()
    drawn = visitor.page.locator(".plot[data-drawn] .main-svg:first-child")
    visitor.until(lambda: drawn.count() == 4, "four pictures")
    assert visitor.fits()
    assert "over about" in visitor.page.inner_text("#operator-said")
    assert visitor.complaints == []
    assert all(url.startswith((lab.address, "data:", "blob:")) for url in visitor.asked)


def test_a_point_follows_pointer_and_keys_and_the_link_restores_it(visit):
    visitor = visit("operator?process=drift&speed=1").drawn()
    page = visitor.page
    page.locator("#operator-plane").scroll_into_view_if_needed()
    before = page.evaluate(ROW, 20)
    x, y, across, down = page.evaluate(POINT, 20)
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across + 30, down - 40, steps=3)
    page.mouse.move(across + 60, down - 80, steps=3)
    visitor.until(lambda: page.evaluate(POINT, 20)[0] > x + 0.5, "the point beneath the pointer")  # while it is held
    visitor.until(lambda: page.evaluate(ROW, 20) != before, "weights of where it is")
    page.mouse.up()
    visitor.until(lambda: page.inner_text("#operator-said").startswith("Point 20 "), "the chosen point in words")
    visitor.until(lambda: abs(page.evaluate(POINT, 20)[2] - across - 60) < 1, "the place where it was let go")
    held = page.evaluate(POINT, 20)
    assert held[1] > y + 0.5
    page.keyboard.press("ArrowLeft")
    visitor.until(lambda: abs(page.evaluate(POINT, 20)[0] - held[0] + 0.1) < 2e-3, "a step to the left")
    assert page.text_content("#operator-told").startswith("Point 20 of 30, at ")
    page.keyboard.press("]")
    visitor.until(lambda: page.inner_text("#operator-said").startswith("Point 21 "), "the next point")
    visitor.until(lambda: "moved=" in page.url and "point=21" in page.url, "the address of all this")
    again = visit(page.url.rpartition("/")[2]).drawn()

    def the_same():
        if again.page.url != page.url:  # the first text lacked the last move
            again.page.goto(page.url)
            again.drawn()
        return again.page.evaluate(CODE) == page.evaluate(CODE)

    visitor.until(the_same, "the same points from the link")
    page.click("#operator-arrange")
    visitor.until(lambda: "moved=" not in page.url, "an address without moves")
    assert visitor.complaints == again.complaints == []


def test_it_plays_and_the_copied_code_computes_the_drawn_numbers(visit):
    visitor = visit("operator?process=heat&n=12&point=3&alpha=0.5&speed=30&bandwidth=0.8").drawn()
    page = visitor.page
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#play")
    visitor.until(lambda: "steps(A, h, 0)" not in page.evaluate(CODE), "some steps")
    page.click("#play")
    visitor.until(lambda: page.inner_text("#play") == "Play", "a pause")
    page.click("#operator-copy")
    visitor.until(lambda: "clipboard" in page.inner_text("#operator-copied"), "word of the copy")
    copied, names = page.evaluate("navigator.clipboard.readText()"), {}
    assert copied == page.evaluate(CODE)
    exec(copied, names)
    assert page.evaluate(ROW, 3) == pytest.approx(names["weights"].tolist(), abs=1e-6)
    colors = page.evaluate(
        "document.getElementById('operator-plane').data.find((t) => t.meta === 'points').marker.color"
    )
    assert colors == pytest.approx(names["h"][:, 0].tolist(), abs=1e-6)
    assert visitor.complaints == []


def test_invalid_settings_and_refused_mechanisms_show_a_sentence(visit):
    visitor = visit("operator?moved=!!&similarity=4&mask=causal&alpha=0.5&n=zebra", scheme="dark").drawn()
    page = visitor.page
    wrong = page.inner_text("#wrong")
    assert "encodes no positions of points" in wrong
    assert "“4” is not one of" in wrong
    assert "“zebra” is not a number" in wrong
    visitor.until(lambda: "would leak the future" in page.inner_text("#note"), "the library's sentence")
    page.get_by_label("none", exact=True).check()
    visitor.until(lambda: "leak" not in page.inner_text("#note"), "the sentence gone")
    page.evaluate("limelight.act('move', [1, 'x', {}])")
    visitor.until(lambda: "A move must be the number of a point" in page.inner_text("#note"), "a sentence on the move")
    assert visitor.fits()
    assert visitor.complaints == []

"""The page of slopes in a browser, and what all pages with a simulation have in common."""

import re

import pytest

pytestmark = pytest.mark.browser


def error(visitor):
    said = visitor.page.inner_text("#slopes-said-gate")
    return float(re.match(r"error ([\d.e+-]+)", said)[1])


def step(visitor):
    return int(re.search(r"\d+", visitor.page.inner_text("#slopes-step"))[0])


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), pytest.param(1280, "dark", marks=pytest.mark.slow)])
def test_it_draws_at_once_and_loads_nothing_from_elsewhere(visit, lab, width, scheme):
    visitor = visit("slopes", width=width, scheme=scheme).drawn()
    drawn = visitor.page.locator(".plot[data-drawn] canvas, .plot[data-drawn] .main-svg")
    visitor.until(lambda: drawn.count() >= 4, "four pictures")
    assert visitor.fits()
    assert visitor.page.get_by_role("link", name="Slopes").get_attribute("aria-current") == "page"
    assert visitor.complaints == []
    assert all(address.startswith((lab.address, "blob:", "data:")) for address in visitor.asked)


def test_the_loss_falls_while_it_plays_and_pause_holds(visit):
    visitor = visit("slopes?rate=0.1", scheme="dark").drawn()
    assert visitor.fits()
    before = error(visitor)
    visitor.page.get_by_role("button", name="Play", exact=True).click()
    visitor.until(lambda: error(visitor) < 0.7 * before, "a smaller error")
    visitor.page.get_by_role("button", name="Pause", exact=True).click()
    visitor.until(lambda: visitor.page.get_by_role("button", name="Play", exact=True).count() == 1, "a pause")
    at, frames = step(visitor), visitor.frames
    visitor.until(lambda: visitor.frames > frames, "another frame")
    assert step(visitor) == at
    visitor.page.get_by_role("button", name="Step", exact=True).click()
    visitor.until(lambda: step(visitor) == at + 1, "one step more")
    visitor.page.get_by_role("button", name="Reset", exact=True).click()
    visitor.until(lambda: step(visitor) == 0, "the beginning")


HIDE = """
(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.mark.slow
def test_a_hidden_page_asks_for_no_frame_and_plays_on_when_it_is_seen_again(visit):
    visitor = visit("slopes").drawn()
    visitor.page.get_by_role("button", name="Play", exact=True).click()
    visitor.until(lambda: step(visitor) > 0, "a step")
    visitor.page.evaluate(HIDE, True)
    counts = []

    def is_still():
        visitor.page.wait_for_timeout(500)
        counts.append(visitor.frames)
        return len(counts) > 3 and counts[-1] == counts[-4]

    visitor.until(is_still, "an end of frames")
    at = step(visitor)
    visitor.page.evaluate(HIDE, False)
    visitor.until(lambda: step(visitor) > at, "a step after the last one that was seen")
    visitor.page.get_by_role("button", name="Pause", exact=True).click()


@pytest.mark.slow  # tests/lab/test_address.py has every setting
def test_settings_are_part_of_the_address(visit):
    visitor = visit("slopes").drawn()
    experts = visitor.page.get_by_label("Experts of the gate")
    experts.focus()
    experts.press("ArrowLeft")
    experts.press("ArrowLeft")
    visitor.until(lambda: "experts=3" in visitor.page.url, "the address")
    legend = visitor.page.locator("#slopes-weights .legendtext")
    visitor.until(lambda: legend.count() == 3, "three experts in the picture")


@pytest.mark.slow
def test_two_who_open_a_link_see_the_same(visit):
    visitor = visit("slopes?experts=3").drawn()
    other = visit(visitor.page.url.partition("//")[2].partition("/")[2]).drawn()
    assert other.page.get_by_label("Experts of the gate").input_value() == "3"
    for each in (visitor, other):
        each.until(lambda each=each: each.page.locator("#slopes-weights .legendtext").count() == 3, "three experts")
    assert other.page.inner_text("#slopes-said-gate") == visitor.page.inner_text("#slopes-said-gate")


def test_there_are_no_other_pages(visit):
    assert "There is no such page" in visit("<b>nowhere").page.locator("h1").inner_text(timeout=30_000)


def test_a_visitors_own_file(visit, tmp_path):
    visitor = visit("slopes").drawn()
    visitor.page.get_by_text("Your own data").click()
    bad, good = tmp_path / "bad.csv", tmp_path / "good.csv"
    bad.write_text("x,y,z\n" + "1,2,3\n" * 20 + "1,two,3\n")
    rows = "".join(f"{i},5;{i % 5},0;{i * (i % 5)},25\r\n" for i in range(40))
    good.write_text("sep=;\r\nlength;breadth;α\r\n" + rows, encoding="utf-16")
    large = tmp_path / "large.csv"
    large.write_text("1,2,3\n" * 500_000)
    chosen = visitor.page.locator("#upload input[type=file]")
    told = visitor.page.locator("#uploaded")
    chosen.set_input_files(large)
    visitor.until(lambda: "the lab takes at most 2 MB" in told.inner_text(), "a sentence about the size")
    chosen.set_input_files(bad)
    visitor.until(lambda: "Row 22 has “two” where a number is expected" in told.inner_text(), "a sentence")
    chosen.set_input_files(good)
    visitor.until(lambda: "40 rows" in told.inner_text(), "the file")
    assert "separated by semicolons, with decimal commas, in UTF-16" in told.inner_text()
    assert "“length” and “breadth”; output: “α”" in told.inner_text()
    visitor.until(lambda: "slopes found" not in visitor.page.inner_text("#slopes-said-gate"), "its surface")


def at(visitor):
    return visitor.page.inner_text("#operator-step").partition(" ·")[0]


@pytest.mark.slow
def test_a_browser_without_shared_workers_plays_too(visit):
    visitor = visit("operator", script="delete window.SharedWorker")
    visitor.drawn().page.get_by_role("button", name="Step", exact=True).click()
    visitor.until(lambda: at(visitor) == "step 1", "a step")


@pytest.mark.slow
def test_two_tabs_on_one_link_each_keep_their_own(visit):
    first, second = visit("operator?seed=5").drawn(), visit("operator?seed=5").drawn()
    first.page.get_by_role("button", name="Step", exact=True).click()
    first.until(lambda: at(first) == "step 1", "a step")
    frames = second.frames
    second.until(lambda: second.frames > frames, "another frame")
    assert at(second) == "step 0"


@pytest.mark.slow
def test_a_page_notices_that_the_lab_stopped_and_came_back(visit, lab):
    visitor = visit("operator?n=12").drawn()
    lab.stop()
    banner = visitor.page.locator("#banner")
    visitor.until(lambda: banner.is_visible() and "does not answer" in banner.inner_text(), "a word about it")
    lab.start()
    visitor.until(lambda: visitor.page.locator("#banner:visible").count() == 0, "an end of it")
    visitor.drawn()
    points = visitor.page.get_by_label(re.compile("^Points")).and_(visitor.page.locator("input"))
    assert points.input_value() == "12"

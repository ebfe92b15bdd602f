"""The page of verdicts in a browser: claims are read, opened, run and canceled."""

import re

import pytest

from limelight.experiment import catalog

pytestmark = pytest.mark.browser
FAST, SLOW = "minimizer_step", "token_clusters"


def read(visitor):
    """Until every row of the table has been filled."""
    rows = visitor.page.locator(".claims tbody tr")
    filled = visitor.page.locator(".claims .verdict, .claims .none")
    visitor.until(lambda: 0 < rows.count() == filled.count(), "a verdict in every row")
    return rows


def kept(lab, name):
    return len(list((lab.results / name).glob("[!.]*.json")))


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)])
def test_every_claim_has_a_row_and_nothing_is_loaded_from_elsewhere(visit, lab, width, scheme):
    visitor = visit("verdicts", width=width, scheme=scheme)
    rows = read(visitor)
    assert [row.split("\n")[0].strip() for row in rows.locator("th").all_inner_texts()] == [
        claim.title for claim in catalog.claims()
    ]
    assert visitor.fits()
    assert visitor.page.get_by_role("link", name="Verdicts").get_attribute("aria-current") == "page"
    assert visitor.complaints == []
    assert all(address.startswith((lab.address, "blob:", "data:")) for address in visitor.asked)


def test_a_claim_is_run_to_the_end_and_its_pictures_are_drawn(visit, lab):
    visitor, other = visit(f"verdicts?claim={FAST}"), visit("verdicts")
    assert visitor.fits()
    assert other.fits()
    visitor.until(lambda: "no result yet" in visitor.page.inner_text(".ruling"), "a claim without a result")
    visitor.page.get_by_label("Seeds").fill("1")
    visitor.page.get_by_role("button", name="Run", exact=True).click()
    visitor.until(lambda: "Done: 4 runs." in visitor.page.inner_text(".run-progress"), "the end of the run")
    visitor.until(lambda: "Too few seeds to judge: 1" in visitor.page.inner_text(".ruling"), "the new verdict")
    assert kept(lab, FAST) == 4
    plots = visitor.page.locator(".plot")
    visitor.until(lambda: plots.count() > 2, "places for pictures")
    for i in range(plots.count()):
        plots.nth(i).scroll_into_view_if_needed()
        visitor.until(lambda i=i: plots.nth(i).locator(".main-svg").count() > 0, f"picture {i}")
    visitor.page.get_by_role("button", name="Run", exact=True).click()
    visitor.until(lambda: "all their results already" in visitor.page.inner_text("#verdict-note"), "a sentence")
    other.page.evaluate("dispatchEvent(new Event('focus'))")
    row = other.page.locator(".claims tr", has_text=catalog.claim(FAST).title)
    other.until(lambda: "inconclusive" in row.inner_text() and "Done" in row.inner_text(), "the other tab's row")
    assert visitor.complaints == other.complaints == []


@pytest.mark.slow  # tests/lab/test_runs.py cancels a run and counts what is kept
def test_a_run_survives_its_page_and_what_it_computed_is_kept_when_it_is_canceled(visit, lab):
    visitor = visit("verdicts")
    read(visitor)
    row = visitor.page.locator(".claims tr", has_text=catalog.claim(SLOW).title)
    row.get_by_role("button", name="Run 10 seeds").click()
    visitor.until(lambda: row.locator("progress").count() == 1, "the progress")
    visitor.page.goto(f"{lab.address}verdicts?claim={SLOW}")
    bar = visitor.page.locator(".run-progress progress")
    visitor.until(lambda: bar.count() == 1 and float(bar.get_attribute("value")) >= 1, "a first run that is done")
    visitor.page.get_by_role("button", name="Cancel").click()
    visitor.until(lambda: "Canceled." in visitor.page.inner_text(".run-progress"), "the end")
    told = re.search(r"(\d+) of 50 runs are kept", visitor.page.inner_text(".run-progress"))
    assert 1 <= int(told[1]) == kept(lab, SLOW) < 50
    assert visitor.complaints == []


@pytest.mark.slow
def test_a_name_without_a_claim_gets_a_sentence_and_the_history_works(visit):
    visitor = visit("verdicts?claim=sloped")
    read(visitor)
    assert "There is no claim called “sloped”. Did you mean slopes?" in visitor.page.inner_text(".wrong")
    visitor.page.get_by_role("link", name="slopes", exact=True).click()
    visitor.until(
        lambda: visitor.page.locator(".claim h2:focus").count() == 1, "the claim, with the focus on its title"
    )
    assert visitor.page.url.endswith("verdicts?claim=slopes")
    visitor.page.go_back()
    read(visitor)
    assert "sloped" in visitor.page.inner_text(".wrong")
    assert visitor.complaints == []

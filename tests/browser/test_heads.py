"""The page of `limelight inspect` in a browser: it loads nothing from elsewhere, fits a phone, and every head opens."""

import pytest

from limelight.microscope.comparing import Comparison
from limelight.microscope.load import load
from limelight.microscope.reading import read
from limelight.report.microscope.page import render
from tests.browser.conftest import Visitor
from tests.browser.test_lab_accessibility import CONTRAST, EVERYTHING, RUN, axe
from tests.microscope import folders

pytestmark = pytest.mark.browser
CAUSAL = {"tiny-llama": "silu", "<i>other": "relu"}
TEXT = "the cat sat on the mat, and the cat <b>sat</b> on the mat again 🙂"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "heads.html"
    path.write_text(render(read(load(folders.causal(folder / "tiny-llama")), TEXT)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def answer_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "heads.html"
    path.write_text(render(read(load(folders.encoder_decoder(folder / "tiny-bart")), TEXT)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def compared_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    readings = [read(load(folders.causal(folder / name, hidden_act=act)), TEXT) for name, act in CAUSAL.items()]
    path = folder / "heads.html"
    path.write_text(render(readings[0], Comparison(*readings)), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser):
    visitors = []

    def open_page(file, **options):
        visitors.append(Visitor(browser, bypass_csp=options.pop("bypass_csp", False)))
        visitor = visitors[-1].open(file.as_uri() + options.pop("hash", ""), **options)
        drawn = "document.documentElement.dataset.drawn === 'yes'"
        visitor.until(lambda: visitor.page.evaluate(drawn), "a drawn page")
        return visitor

    yield open_page
    for visitor in visitors:
        visitor.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_it_is_whole_and_asks_for_nothing(visit, page_file, width, scheme):
    visitor = visit(page_file, width=width, scheme=scheme)
    assert visitor.asked == [page_file.as_uri()]
    assert visitor.complaints == []
    assert visitor.fits()
    assert visitor.page.locator(".cell").count() == 8
    assert visitor.page.locator("#numbers-of-all tbody tr").count() == 8
    assert visitor.page.locator("b").count() == 0  # a text with markup is text
    assert "<" in visitor.page.locator("#keys").inner_text()


def colored(page):
    return page.evaluate("[...document.querySelectorAll('.cell')].map((cell) => cell.style.background)")


def test_the_grid_is_colored_by_a_chosen_measure_and_opens_a_head(visit, page_file):
    visitor = visit(page_file)
    page = visitor.page
    before = colored(page)
    page.locator("#measure").select_option("mean_distance")
    assert colored(page) != before
    assert "How far away" in page.locator("#meaning").inner_text()
    page.locator("#grid [data-place='1.2']").click()
    assert page.locator("#head-title").inner_text() == "Layer 1, head 2"
    assert page.url.endswith("#1.2")
    page.locator("#grid [data-place='1.2']").press("ArrowLeft")
    assert page.locator("#head-title").inner_text() == "Layer 1, head 1"
    assert page.locator(".cell[aria-pressed='true']").count() == 1


def test_an_address_names_a_head(visit, page_file):
    assert visit(page_file, hash="#1.3").page.locator("#head-title").inner_text() == "Layer 1, head 3"
    assert visit(page_file, hash="#9.9").page.locator("#head-title").inner_text().startswith("Layer ")


def test_a_token_shows_what_it_attends_to(visit, page_file):
    visitor = visit(page_file, hash="#1.1")
    page = visitor.page
    P = read(load(str(page_file.parent / "tiny-llama")), TEXT).scope[1, 1]
    right = P.topk(3)
    page.locator("#keys .token").nth(6).click()
    shares = page.locator("#links .share").all_inner_texts()
    words = page.locator("#links .word").all_inner_texts()
    assert [float(share.rstrip("%")) for share in shares[:3]] == pytest.approx(
        (100 * right.weights[6]).tolist(), abs=0.75
    )
    assert [int(word.rpartition("(")[2].rstrip(")")) for word in words[:3]] == right.keys[6].tolist()
    assert page.locator("#keys .token[aria-pressed='true']").count() == 1
    page.locator("#map").click(position={"x": 5, "y": 2})
    assert "(token 0) attends to" in page.locator("#says").inner_text()


def test_the_table_is_sorted_by_its_headings(visit, page_file):
    page = visit(page_file).page

    def column():
        cells = page.locator("#numbers-of-all tbody td:nth-child(3)").all_inner_texts()
        return [float(cell) for cell in cells]

    heading = page.locator("#numbers-of-all th button").nth(2)
    heading.click()
    assert column() == sorted(column(), reverse=True)
    page.locator("#numbers-of-all th[aria-sort='descending'] button").click()
    assert column() == sorted(column())
    page.locator("#numbers-of-all tbody tr").nth(0).locator(".go").click()
    layer, head = page.locator("#numbers-of-all tr.chosen td").all_inner_texts()[:2]
    assert page.locator("#head-title").inner_text() == f"Layer {layer}, head {head}"


def test_cross_attention_has_the_tokens_of_both_texts(visit, answer_file):
    page = visit(answer_file, hash="#3.0").page
    assert page.locator("#queries-title").is_visible()
    page.locator("#queries .token").nth(1).click()
    assert page.locator("#links li").count() > 0
    assert page.locator("#queries .token[aria-pressed='true']").count() == 1
    page.locator("#grid [data-place='0.0']").click()
    assert not page.locator("#queries-title").is_visible()
    assert page.locator("#links li").count() == 0


def test_axe_finds_nothing(visit, page_file):
    visitor = visit(page_file, bypass_csp=True, hash="#1.1")
    page = visitor.page
    page.locator("#keys .token").nth(6).click()
    page.evaluate(axe.AXE_SCRIPT)
    assert page.evaluate(RUN, EVERYTHING) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(RUN, CONTRAST) == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_two_models_are_compared_and_a_cell_opens_its_head(visit, compared_file, width, scheme):
    visitor = visit(compared_file, width=width, scheme=scheme)
    page = visitor.page
    assert visitor.complaints == []
    assert visitor.fits()
    assert "Compared with <i>other" in page.locator("#compare-title").inner_text()
    cells = "[...document.querySelectorAll('#difference-grid .cell')].map((cell) => cell.style.background)"
    before = page.evaluate(cells)
    page.locator("#difference").select_option("mean_distance")
    assert page.evaluate(cells) != before
    page.locator("#difference-grid [data-place='1.2']").click()
    assert page.locator("#head-title").inner_text() == "Layer 1, head 2"
    assert page.locator("#grid [data-place='1.2']").get_attribute("aria-pressed") == "true"

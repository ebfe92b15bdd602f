"""The page of `limelight inspect` in a browser: it loads nothing from elsewhere, fits a phone, and every head opens."""

import pytest

from limelight.microscope.comparing import Comparison
from limelight.microscope.load import load
from limelight.microscope.reading import read, read_picture
from limelight.report.microscope.page import render
from limelight.report.microscope.session import Session
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
    assert not visitor.page.locator("#zoom").is_visible()  # the text is short
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


@pytest.fixture(scope="module")
def base_file(tmp_path_factory):
    """12 layers with 12 heads that spread as they please, and 256 tokens."""
    path = tmp_path_factory.mktemp("page") / "heads.html"
    path.write_text(render(folders.read_by_base_model()), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_base_models_page_is_small_and_drawn_in_two_seconds(visit, base_file, width, scheme):
    assert base_file.stat().st_size <= 3e6
    visit(base_file)  # the browser has read its own files then
    visitor = visit(base_file, width=width, scheme=scheme)
    assert visitor.asked == [base_file.as_uri()]
    assert visitor.fits()
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    assert visitor.page.evaluate(paint) <= 2000  # milliseconds
    assert visitor.page.locator("#grid .cell").count() == 144
    a_part_of_the_map_can_be_enlarged(visitor.page)


def a_part_of_the_map_can_be_enlarged(page):
    page.locator("#keys .token").nth(200).click()
    page.locator("#zoom").select_option("32")
    assert page.evaluate("document.getElementById('map').width") == 32 * (420 // 32)
    page.locator("#map").click(position={"x": 5, "y": 2})
    assert "(token 184) attends to" in page.locator("#says").inner_text()


@pytest.fixture(scope="module")
def picture_file(tmp_path_factory):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: the extra images")
    folder = tmp_path_factory.mktemp("page")
    image.linear_gradient("L").resize((50, 40)).save(folder / "picture.png")
    path, loaded = folder / "heads.html", load(folders.vision(folder / "vit"))
    path.write_text(render(read_picture(loaded, folder / "picture.png")), encoding="utf-8")
    return path


DARKNESS = """[...document.querySelector('#over-picture').getContext('2d').getImageData(0, 0, 420, 420).data]
    .reduce((sum, x) => sum + x, 0)"""


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_heads_are_drawn_over_a_picture(visit, picture_file, width, scheme):
    visitor = visit(picture_file, width=width, scheme=scheme, hash="#1.2")
    page = visitor.page
    assert visitor.complaints == []
    assert [address for address in visitor.asked if not address.startswith("data:")] == [picture_file.as_uri()]
    assert visitor.fits()
    assert page.locator(".thumbnail").count() == 4
    assert not page.locator("#map").is_visible()
    assert "The class token gives" in page.locator("#says").inner_text()
    before = page.evaluate(DARKNESS)
    page.locator(".thumbnail").nth(1).click()
    assert page.locator("#head-title").inner_text() == "Layer 1, head 1"
    assert page.evaluate(DARKNESS) != before
    box = page.locator("#over-picture").bounding_box()
    page.locator("#over-picture").click(position={"x": 0.9 * box["width"], "y": 0.4 * box["height"]})
    assert "The patch in row 2, column 4 gives" in page.locator("#says").inner_text()
    page.locator("#others .token").first.click()
    assert page.locator("#others .token[aria-pressed='true']").count() == 1
    assert "The class token gives" in page.locator("#says").inner_text()


def test_axe_finds_nothing_on_the_page_of_a_picture(visit, picture_file):
    page = visit(picture_file, bypass_csp=True).page
    page.evaluate(axe.AXE_SCRIPT)
    assert page.evaluate(RUN, EVERYTHING) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(RUN, CONTRAST) == []


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    texts = [TEXT, "the cat sat", "the mat sat on the cat and the mat sat again"]
    found = Session(texts).of(load(folders.causal(folder / "tiny-llama")))
    path = folder / "heads.html"
    path.write_text(render(found.reading, None, found.over), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_a_corpus_has_intervals_and_the_texts_at_the_ends(visit, texts_file, width, scheme):
    visitor = visit(texts_file, width=width, scheme=scheme, hash="#0.1")
    page = visitor.page
    assert visitor.complaints == []
    assert visitor.fits()
    page.locator("#measure").select_option("effective_keys")
    assert "effective keys is least in text 2, “the cat sat”" in page.locator("#texts-say").inner_text()
    assert page.locator("#numbers small").count() > 10
    assert page.locator("b").count() == 0

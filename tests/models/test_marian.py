"""A translator of Marian: its file is read as it was written, and its parts are what their equations say."""

import math

import pytest
import torch

from limelight import InputError
from limelight.errors import DtypeError
from limelight.models.marian import END, TRANSLATOR, MarianTranslator, english_to_portuguese, positions
from limelight.models.marian_weights import named, read_marian
from tests.models.marian_files import WIDTH, random_weights, write


@pytest.fixture
def weights():
    return random_weights(encoder=2, decoder=2)


@pytest.fixture
def model(weights):
    return MarianTranslator(weights, encoder=2, decoder=2, heads=4)


def test_a_file_is_read_as_it_was_written(tmp_path, weights):
    write(tmp_path / "model.bin", weights, eight_bits=("Wemb", "encoder_l1_ffn_W1"))
    found = read_marian(tmp_path / "model.bin")
    assert found.keys() == weights.keys()  # without the text
    for name, array in weights.items():
        near = 0.5 / 20 + 1e-6 if name in ("Wemb", "encoder_l1_ffn_W1") else 0
        torch.testing.assert_close(found[name], array, atol=near, rtol=0)


@pytest.mark.parametrize("cut", [8, 40, 200, 5000, -300])
def test_a_file_that_is_cut_is_refused(tmp_path, weights, cut):
    write(tmp_path / "model.bin", weights)
    content = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(content[:cut])
    with pytest.raises(InputError, match=r"model\.bin"):
        read_marian(tmp_path / "model.bin")


def test_other_files_are_refused(tmp_path, weights):
    (tmp_path / "other.bin").write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(InputError, match=r"other\.bin is no file of Marian of version 1"):
        read_marian(tmp_path / "other.bin")
    write(tmp_path / "model.bin", {"x": torch.ones(2, 2)})
    content = (tmp_path / "model.bin").read_bytes().replace(b"\x04\x04", b"\x08\x04", 1)
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(InputError, match="the array 'x' has the type 0x408"):
        read_marian(tmp_path / "model.bin")


def normed(weights, name, h):
    centered = h - h.mean(-1, keepdim=True)
    scaled = centered / (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * weights[named(name, "ln_scale")] + weights[named(name, "ln_bias")]


def attended(weights, name, h, others):
    q, k, v = (
        (x @ weights[named(name, f"W{part}")] + weights[named(name, f"b{part}")])
        .unflatten(-1, (4, WIDTH // 4))
        .transpose(0, 1)
        for x, part in ((h, "q"), (others, "k"), (others, "v"))
    )
    read = ((q @ k.mT / math.sqrt(WIDTH // 4)).softmax(-1) @ v).transpose(0, 1).flatten(1)
    return normed(weights, named(name, "Wo"), h + read @ weights[named(name, "Wo")] + weights[named(name, "bo")])


def network(weights, name, h):
    hidden = (h @ weights[named(name, "W1")] + weights[named(name, "b1")]).relu()
    return normed(weights, named(name, "ffn"), h + hidden @ weights[named(name, "W2")] + weights[named(name, "b2")])


def recurrence(weights, name, h):
    out, cell = [], torch.zeros(WIDTH)
    for x in h:
        forget = (x @ weights[named(name, "Wf")] + weights[named(name, "bf")][0]).sigmoid()
        cell = forget * cell + (1 - forget) * (x @ weights[named(name, "W")])
        out.append(cell.relu())
    return normed(weights, named(name, "ffn"), h + torch.stack(out))


def test_it_computes_what_its_equations_say(model, weights):
    source, target = torch.tensor([3, 7, 7, 1, END]), torch.tensor([5, 2, 9])
    h = weights["Wemb"][source] * WIDTH**0.5 + positions(5, WIDTH)
    for name in ("encoder_l1", "encoder_l2"):
        h = network(weights, named(name, "ffn"), attended(weights, named(name, "self"), h, h))
    torch.testing.assert_close(model.encode(source), h)
    memory, h = h, torch.cat([torch.zeros(1, WIDTH), weights["Wemb"][target] * WIDTH**0.5]) + positions(4, WIDTH)
    for name in ("decoder_l1", "decoder_l2"):
        h = attended(weights, named(name, "context"), recurrence(weights, named(name, "rnn"), h), memory)
        h = network(weights, named(name, "ffn"), h)
    torch.testing.assert_close(model.states(target, memory), h)
    scores = h @ weights["Wemb"].T + weights["decoder_ff_logit_out_b"]
    torch.testing.assert_close(model.scores(h), scores)


def test_positions_are_sines_and_then_cosines():
    found = positions(3, 8)
    assert found[2, 0].item() == pytest.approx(math.sin(2))
    assert found[2, 3].item() == pytest.approx(math.sin(2e-4))
    assert found[2, 5].item() == pytest.approx(math.cos(2 / 10_000 ** (1 / 3)))


def test_a_translation_ends_and_each_token_is_the_likeliest(model):
    memory = model.encode(torch.tensor([3, 7, END]))
    found = model.translate(memory, 6)
    assert len(found) <= 6
    likeliest = model.scores(model.states(found, memory)).argmax(-1)
    assert torch.equal(likeliest[: len(found)], found)
    assert END not in found
    with torch.no_grad():
        model.bias[END] += 100
    assert len(model.translate(memory, 6)) == 0


def test_what_are_no_tokens_is_refused(model):
    for source, words in ((torch.tensor([3, 40]), "from 0 to 39"), (torch.tensor([0.5]), "whole numbers")):
        with pytest.raises((InputError, DtypeError), match=words):
            model.encode(source)
    with pytest.raises(InputError, match="target expects tokens from 0 to 39, got tokens from -1"):
        model.states(torch.tensor([-1]), torch.zeros(2, WIDTH))


@pytest.mark.slow
def test_the_package_translates():
    if problem := TRANSLATOR.missing():
        pytest.skip(problem)
    model, tokenizer = english_to_portuguese()
    source = torch.tensor([*tokenizer.encode("The dog went to the park today.").ids, END])
    assert tokenizer.decode(model.translate(model.encode(source), 30).tolist()) == "O cão foi para o parque hoje."

"""The model that is built by hand does what its documentation says, head by head."""

import pytest
import torch

from limelight import microscope
from limelight.data.byte_text import BEGIN, ByteTokenizer, encoded, following
from limelight.microscope.tokens import readable
from limelight.models.hand_built import HandBuilt, HandBuiltEncoder

TEXT = "The cat sat on the mat. The dog sat on the rug. The c"


@pytest.fixture(scope="module")
def scope():
    with torch.no_grad(), microscope.attach(model := HandBuilt()) as found:
        model(encoded(TEXT)[None])
    return found


def test_each_head_attends_as_it_is_meant_to(scope):
    table = scope.table()
    of = {name: {(row["layer"], row["head"]): row[name] for row in table.rows} for name in scope.table().measures}
    assert of["previous_token"][0, 0] > 0.99
    assert scope[0, 1].dense().diagonal(-2).min() > 0.99
    assert torch.allclose(scope[0, 2].dense()[-1], torch.full((54,), 1 / 54))
    assert of["first_token"][0, 3] > 0.95
    assert of["induction"][1, 0] > 0.9
    assert of["duplicate_token"][1, 2] > 0.5
    assert of["same_token"][1, 3] > 0.99
    two = scope[1, 1].dense()
    at = 1 + TEXT.index("at ")  # what followed “ c” before
    assert two[-1, at] > 0.99
    assert two[1, 0] > 0.9  # no match: it rests on the first token


@pytest.mark.parametrize("n", [2, 100, 256])
def test_the_token_before_is_found_at_any_length(n):
    ids = torch.randint(256, (1, n), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), microscope.attach(model := HandBuilt()) as found:
        model(ids)
    assert found[0, 0].dense().diagonal(-1).min() > 0.95


def test_copying_needs_both_layers(scope):
    model, ids = scope.model, encoded(TEXT)[None]
    chance = following()[ord("c"), ord("a")].exp()

    def p(*heads):
        with torch.no_grad(), scope.intervene(*([microscope.Ablate(heads)] if heads else [])):
            return float(model(ids)[0, -1].softmax(-1)[ord("a")])

    assert p() > 0.9
    assert p((1, 0), (1, 1)) < chance + 0.1
    assert p((0, 0)) < p() - 0.3


def test_an_encoder_sees_both_sides():
    with torch.no_grad(), microscope.attach(model := HandBuiltEncoder(is_causal=False)) as found:
        one = model(encoded("abcabc")[None])
    assert found[0, 2].dense()[0, -1] > 0.1
    assert one.shape == (1, 7, 322)
    causal = HandBuiltEncoder()
    assert torch.allclose(causal(encoded("abc")[None])[0, 2], causal(encoded("abz")[None])[0, 2])


@pytest.mark.parametrize("text", ["abc", "é🙂", "漢字", "\0", "� "])
def test_bytes_are_the_text(text):
    ids = encoded(text).tolist()
    assert ids[0] == BEGIN
    assert ByteTokenizer().decode(ids[1:]) == text
    labels = readable(ByteTokenizer(), ids)
    assert len(labels) == len(ids)
    assert labels[0] == "⟨begin⟩"


def test_what_follows_is_a_distribution():
    assert torch.allclose(following().exp().sum(-1), torch.ones(257), atol=1e-5)
    assert following()[:, BEGIN].max() < -7

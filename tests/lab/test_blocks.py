"""The simulation of the page of generative models, without a page."""

import base64
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from limelight.claims.transformer_parts import next_token_loss
from limelight.data.reversals import sequences
from limelight.data.special_tokens import BEGIN, END, FIRST
from limelight.errors import DivergenceError, InputError
from limelight.lab.address import from_query, read
from limelight.lab.pages.blocks import page, reversal
from limelight.lab.pages.blocks.diffusion import DRAWN, STAGES, Diffusion
from limelight.lab.pages.blocks.reversal import PARTS, WORDS, Reversal
from limelight.lab.pages.blocks.settings import (
    FIELDS,
    LONGEST,
    MODELS,
    OF_DIFFUSION,
    OF_TRANSFORMER,
    SHORTEST,
    SHOWN,
    SPEEDS,
)  # fmt: skip
from limelight.lab.pages.blocks.simulation import BlocksSimulation

SHORT = {"what": "transformer", "length": 4, "rate": 5}  # is learned in a second


def live(**values):
    found, wrong = read(FIELDS, values)
    assert not wrong
    return BlocksSimulation(found)


def taught(steps, **values):
    playing = live(**values)
    for _ in range(steps):
        playing.step()
    playing._chosen._measure()
    return playing


def newest(playing, name):
    return playing._chosen._newest[name]


@torch.no_grad()
def loss(playing):
    """Of the letters of unseen sequences, each guessed from the true ones before it."""
    learner = playing._chosen
    return float(next_token_loss(learner._model, learner._unseen, learner._target))


def numbers(spec):
    return np.frombuffer(base64.b64decode(spec["bdata"]), "<f4")


def test_samples_come_out_of_noise_and_guidance_chooses_their_digit():
    playing = live()
    noise, unseen = playing._chosen._distance, newest(playing, "unseen")
    for _ in range(150):
        playing.step()
    playing._chosen._measure()
    assert newest(playing, "unseen") < 0.7 * unseen
    assert playing._chosen._distance < 0.65 * noise
    assert playing._chosen._read.count(5) < 0.5 * DRAWN
    playing.change({**playing.values, "scale": 3, "digit": 5})
    assert playing._chosen._read.count(5) > 0.8 * DRAWN
    said = playing.labels()
    assert said["blocks-said-walk"].startswith("Guided toward 5, ")
    assert said["blocks-step"] == "step 150 · 19,200 images seen"


def test_a_walk_begins_with_noise_and_ends_with_what_is_judged():
    playing = live()
    learner = playing._chosen
    walk = learner._walk()
    assert len(walk) == 1 + 25
    assert torch.equal(walk[0], learner._noise)
    assert list(learner._stages) == list(STAGES)
    assert all(
        stage.shape == (SHOWN, 8, 8) and 0 <= stage.min() <= stage.max() <= 1 for stage in learner._stages.values()
    )
    playing.change({**playing.values, "walk": 1})
    before, sample = list(learner._stages.values())[:-1], learner._stages["sample"]
    assert all(np.array_equal(stage, learner._stages["noise"]) for stage in before)
    assert not np.array_equal(sample, learner._stages["noise"])


def test_letters_are_reversed_and_attention_is_where_they_stand():
    playing = taught(150, **SHORT)
    assert newest(playing, "exact") > 0.9
    assert newest(playing, "letters") >= newest(playing, "exact")
    said = playing.labels()
    assert "WORD → DROW ✓" in said["blocks-written"].splitlines()[0]
    assert said["blocks-step"] == "step 150 · 4,800 sequences seen"
    there = np.fliplr(playing._chosen._weights[:4]).diagonal()
    assert there.mean() > 0.4
    assert said["blocks-said-cross"].startswith(f"{there.mean():.0%} of the weight (the mean of all heads)")


@pytest.mark.slow
def test_without_cross_attention_it_never_learns():
    playing = taught(150, **SHORT, cross=False)
    assert newest(playing, "exact") < 0.05
    guess = math.log(26) * 4 / 5
    assert loss(playing) == pytest.approx(guess, rel=0.1)
    assert not playing._chosen._weights.any()
    assert "switched off" in playing.labels()["blocks-said-cross"]


@pytest.mark.slow
@pytest.mark.parametrize(("part", "most"), [("mask", 0.1), ("positions", 3.0)])
def test_without_the_mask_or_positions_nothing_is_exact_whatever_the_loss(part, most):
    playing = taught(400, what="transformer", rate=3, **{part: False})
    assert newest(playing, "exact") < 0.05
    assert loss(playing) < most


@pytest.mark.slow
def test_feed_forward_networks_are_not_needed_to_reverse():
    assert newest(taught(400, what="transformer", rate=3, feed=False), "exact") > 0.8


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_switched_on_again_has_kept_what_it_learned(part):
    playing = taught(20, **SHORT)
    learner = playing._chosen
    source, target = learner._unseen, learner._target[:, :-1]
    with torch.no_grad():
        before = learner._model(source, target)
        playing.change({**playing.values, part: False})
        without = learner._model(source, target)
        playing.change({**playing.values, part: True})
        after = learner._model(source, target)
    assert learner._steps == 20
    assert not torch.allclose(before, without)
    assert torch.equal(before, after)
    playing.step()


def test_what_is_tested_is_never_trained_on(monkeypatch):
    learner = live(what="transformer")._chosen
    seen = learner._unseen[:7]

    def some_known(n, length, symbols, generator):
        drawn = sequences(n, length, symbols, generator)
        drawn[:7] = seen
        return drawn

    monkeypatch.setattr(reversal, "sequences", some_known)
    batch = learner._batch()
    assert len(batch) == reversal.BATCH - 7
    assert not (batch[:, None] == learner._unseen).all(-1).any()


def test_only_the_chosen_model_learns_and_the_other_keeps_what_it_has_learned():
    playing = taught(3)
    first = playing._chosen
    weights = [parameter.clone() for parameter in first._denoiser.parameters()]
    drawn = playing.change({**playing.values, "what": "transformer"})
    assert set(drawn) == set(playing.figures()) == {"blocks-cross", "blocks-exact", "blocks-letter-loss"}
    assert isinstance(playing._chosen, Reversal)
    playing.step()
    assert playing.labels()["blocks-step"].startswith("step 1 ")
    assert set(playing.change({**playing.values, "what": "diffusion"})) == {"blocks-walk", "blocks-noise-loss"}
    assert playing._chosen is first
    assert playing.labels()["blocks-step"].startswith("step 3 ")
    assert all(map(torch.equal, weights, first._denoiser.parameters()))


def test_each_model_has_its_speed():
    playing = live(drawing=90, writing=7)
    assert playing.rate == 90
    playing.change({**playing.values, "what": "transformer"})
    assert playing.rate == 7


@pytest.mark.parametrize("what", MODELS)
def test_the_same_seed_learns_the_same_and_another_does_not(what):
    runs = [taught(3, what=what, seed=seed) for seed in (3, 3, 4)]
    rows = [playing._chosen._history.values[1:, -1] for playing in runs]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    playing = runs[0]
    playing.change({**playing.values, "seed": 4})
    assert playing._chosen._steps == 0


@pytest.mark.parametrize("what", MODELS)
def test_updates_change_the_traces_that_were_drawn_and_only_what_is_new(what):
    playing = live(what=what)
    before = playing.figures()
    assert playing.updates() == {}
    for _ in range(20):
        playing.step()
    playing._chosen._measure()
    updates = playing.updates()
    assert updates.keys() == before.keys()
    assert playing.updates() == {}
    now = playing.figures()
    for place, changes in updates.items():
        for trace, attributes in changes:
            drawn = now[place].data[trace].to_plotly_json()
            for name, value in attributes.items():
                if isinstance(value, dict):
                    assert numbers(value) == pytest.approx(np.ravel(drawn[name]), rel=1e-6, nan_ok=True)
                elif name == "text":
                    assert list(drawn[name]) == value
    assert list(now[list(now)[-1]].data[1].x)[-1] == 20


@pytest.mark.parametrize(
    ("changed", "keeps"),
    [({"scale": 2}, True), ({"digit": 4}, True), ({"walk": 5}, True), ({"rate": 2}, True), ({"seed": 1}, False),
     ({"what": "transformer", "head": 2}, True), ({"what": "transformer", "length": 5}, True)],
)  # fmt: skip
def test_a_setting_of_the_view_keeps_what_was_learned(changed, keeps):
    playing = taught(3)
    learner = playing._chosen
    playing.change({**playing.values, **changed})
    assert (learner._steps == 3) == keeps
    playing.step()


def test_another_head_or_length_is_seen_at_once():
    playing = live(what="transformer")
    mean = playing._chosen._weights
    for head in range(1, 5):
        assert playing.change({**playing.values, "head": head}) == ()
        assert list(playing.updates()) == ["blocks-cross", "blocks-exact", "blocks-letter-loss"]
        mean = mean - playing._chosen._weights / 4
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    assert len(playing.change({**playing.values, "length": 12})) == 3
    assert playing.figures()["blocks-cross"].data[0].z.shape == (13, 12)
    assert list(playing.figures()["blocks-cross"].layout.xaxis.ticktext) == list("ENCYCLOPEDIA")


def test_there_is_a_word_of_each_length():
    assert [len(word) for word in WORDS] == list(range(SHORTEST, LONGEST + 1))


def test_what_is_written_is_shown_up_to_its_end():
    letters = [FIRST, FIRST + 25, BEGIN]
    assert reversal._text(torch.tensor([*letters, END, FIRST])) == "AZ·"
    assert reversal._text(torch.tensor(letters)) == "AZ·"
    assert reversal._text(torch.tensor([END])) == ""


@pytest.mark.parametrize(("kind", "numbers"), [(Diffusion, [0.5]), (Reversal, [0.5, 0.5])])
def test_memory_does_not_grow(kind, numbers, monkeypatch):
    learner = kind(read(FIELDS, {})[0])
    monkeypatch.setattr(kind, "_measured", lambda self: numbers)
    monkeypatch.setattr(kind, "_evaluate", lambda self: None)
    for _ in range(2000):
        learner._measure()
    assert len(learner._at) <= 401
    assert learner._losses == []


@pytest.mark.parametrize(("what", "network", "name"), [("diffusion", "_classifier", "classifier"),
                                                       ("transformer", "_model", "Transformer")])  # fmt: skip
def test_a_loss_that_is_not_finite_is_reported_each_time(what, network, name):
    playing = live(what=what)
    with torch.no_grad():
        next(getattr(playing._chosen, network).parameters()).fill_(torch.nan)
    for _ in range(2):
        with pytest.raises(DivergenceError, match=f"“{name}” is no longer finite"):
            playing.step()
    rows = playing._chosen._rows
    playing.change({**playing.values, "scale": 2, "head": 3, "mask": False})  # nothing can be measured now
    assert playing.labels()
    assert playing._chosen._rows == rows


def test_invalid_settings_are_reported_and_replaced():
    values, wrong = from_query(FIELDS, "what=gan&digit=ten&scale=nan&walk=0&cross=maybe&head=9")
    assert len(wrong) == 6
    assert (values["what"], values["digit"], values["scale"], values["walk"], values["cross"], values["head"]) == (
        "diffusion", 3, 0, 1, True, 4,
    )  # fmt: skip
    with pytest.raises(InputError):
        BlocksSimulation(values).handle_action("look", 3)


def test_settings_of_the_other_model_are_hidden():
    """The style sheet names each of them, and no other."""
    rules = Path(page.PAGE.assets[0]).read_text(encoding="utf-8").splitlines()
    hidden = {model: next(rule for rule in rules if f'"{model}"]:checked) .panel' in rule) for model in MODELS}
    theirs = {
        "diffusion": {*OF_DIFFUSION, SPEEDS["diffusion"]},
        "transformer": {*OF_TRANSFORMER, SPEEDS["transformer"]},
    }
    for model, other in (("diffusion", "transformer"), ("transformer", "diffusion")):
        named = {field.name for field in FIELDS if f"[id*='\"{field.name}\"']" in hidden[model]}
        assert named == theirs[other]
    grouped = [name for _, names in page.PAGE.groups for name in names]
    assert sorted(grouped) == sorted(field.name for field in FIELDS)

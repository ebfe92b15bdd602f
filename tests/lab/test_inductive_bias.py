"""The simulation of the page of biases, without a page."""

import base64

import numpy as np
import pytest
import torch

from limelight.claims.translation_prior import ATTENTION, CONV, FULL
from limelight.errors import DivergenceError, InputError
from limelight.figures.learning import accuracies, chance_line
from limelight.figures.predictions import answer_texts, prediction_grid, saliency_overlay
from limelight.interpret.saliency import saliency
from limelight.lab.address import from_query, read
from limelight.lab.pages.inductive_bias.images import Images, drawn
from limelight.lab.pages.inductive_bias.settings import FIELDS, IMAGES, KINDS, SHOWN, TESTS
from limelight.lab.pages.inductive_bias.simulation import PICTURES, InductiveBiasSimulation


def live(**values):
    found, wrong = read(FIELDS, values)
    assert not wrong
    return InductiveBiasSimulation(found)


def taught(steps, **values):
    playing = live(**values)
    for _ in range(steps):
        playing.step()
    playing._measure()
    playing._evaluate()
    return playing


def accuracy(playing, place, what="tested"):
    return float(playing.labels()[f"bias-{what}-{place}"])


def numbers(spec):
    return np.frombuffer(base64.b64decode(spec["bdata"]), "<f4")


def test_of_few_shifted_images_the_convolution_learns_most():
    playing = taught(100, images=250)
    assert accuracy(playing, "conv") > accuracy(playing, "full") + 0.2
    assert accuracy(playing, "conv") > accuracy(playing, "attention") + 0.2
    assert playing.labels()["bias-step"] == "step 100 · 6,400 images seen"
    assert playing.labels()["bias-size-conv"] == "5,130"


def test_random_labels_are_learned_by_heart_and_help_nowhere():
    playing = taught(100, images=50, kind="random", batch=50)
    for place in ("full", "conv", "attention"):
        assert accuracy(playing, place, "training") > 0.9
        assert accuracy(playing, place) < 0.25


def test_another_test_needs_no_new_training():
    playing = taught(100, kind="centered")
    learned = [parameter.clone() for parameter in playing._models[FULL].parameters()]
    there = accuracy(playing, "full")
    assert playing.change(playing.values | {"tested": "shifted"})
    assert accuracy(playing, "full") < there - 0.3
    assert accuracy(playing, "conv") > accuracy(playing, "full")
    curve = playing.figures()["bias-accuracy"].data[0].y
    assert curve[-1] == pytest.approx(accuracy(playing, "full"), abs=0.006)
    assert all(map(torch.equal, learned, playing._models[FULL].parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_digits_whatever_the_kind(kind):
    found, plain = drawn(kind, 60, 5), drawn("centered", 60, 5)
    assert found.images.shape == (60, 12, 12)
    torch.testing.assert_close(found.images.sum((1, 2)), plain.images.sum((1, 2)))
    assert torch.equal(found.truth, plain.truth)
    assert torch.equal(found.labels, plain.labels) == (kind != "random")
    assert list(found.tests) == list(TESTS)
    for test in ("shifted", "mirrored"):
        assert torch.equal(found.tests[test], plain.tests[test])
    assert not torch.equal(found.truth, drawn(kind, 60, 6).truth)
    most = drawn(kind, IMAGES, 5)
    assert torch.equal(most.images[:60], found.images)


def test_accuracies_are_those_of_each_test():
    images = drawn("centered", 50, 0)
    names = {image.numpy().tobytes(): digit for image, digit in zip(images.tests["like"], images.truth, strict=True)}

    def known(asked):  # right on the first test; of any other image it says 0
        said = torch.tensor([int(names.get(image.numpy().tobytes(), 0)) for image in asked])
        return torch.nn.functional.one_hot(said, 10).float()

    zeros = float((images.truth == 0).float().mean())
    found = images.accuracies(known)
    assert found[0] == 1.0
    assert found[1] < 0.2
    assert found[2] == pytest.approx(zeros, abs=0.02)
    assert found[3] == pytest.approx(float((images.labels == 0).float().mean()), abs=0.05)


def test_all_three_learn_the_same_batches_and_a_seed_repeats_them():
    runs = [live(seed=seed) for seed in (3, 3, 4)]
    for playing in runs:
        for _ in range(5):
            playing.step()
    for name in (FULL, CONV, ATTENTION):
        first, again, other = ([*playing._models[name].parameters()] for playing in runs)
        assert all(map(torch.equal, first, again))
        assert not all(map(torch.equal, first, other))


def test_updates_change_the_traces_that_were_drawn_and_only_what_is_new():
    playing = live()
    before = playing.figures()
    assert playing.updates() == {}
    for _ in range(40):
        playing.step()
    playing._measure()
    playing._evaluate()
    updates = playing.updates()
    assert updates.keys() == before.keys()
    assert playing.updates() == {}
    now = playing.figures()
    for place, changes in updates.items():
        for trace, attributes in changes:
            drawn = now[place].data[trace].to_plotly_json()
            for name, value in attributes.items():
                if isinstance(value, dict) and "bdata" in value:
                    assert numbers(value) == pytest.approx(np.ravel(drawn[name]), rel=1e-6)
                elif name == "textfont":
                    assert list(drawn[name]["color"]) == value["color"]
                else:
                    assert drawn[name] == value
    assert list(now["bias-accuracy"].data[0].x)[-1] == 40 * 64


@pytest.mark.parametrize(
    ("changed", "keeps", "anew"),
    [({"batch": 8}, True, ()), ({"rate": 2}, True, ()), ({"tested": "mirrored"}, True, PICTURES),
     ({"look": 3}, True, ["bias-answers"]), ({"kind": "permuted"}, False, PICTURES), ({"images": 60}, False, PICTURES)],
)  # fmt: skip
def test_a_setting_that_is_not_of_the_data_keeps_what_was_learned(changed, keeps, anew):
    playing = live()
    for _ in range(3):
        playing.step()
    assert playing.change(playing.values | changed) == anew
    assert (playing._steps == 3) == keeps
    playing.step()


def test_the_chosen_image_is_the_one_that_is_evaluated():
    playing = live(look=7)
    assert f"Test image 7 of {SHOWN}, a {int(playing._data.truth[6])}." == playing.labels()["bias-chosen"]
    frame = playing.figures()["bias-answers"].layout.shapes[0]
    assert frame.yref == "y"
    assert frame.x0 <= 6 * 14 < frame.x1
    strokes = playing.figures()["bias-map-conv"].data[1].z
    np.testing.assert_array_equal(strokes, playing._data.tests["like"][6])
    maps = playing._maps["bias-received"]
    assert float(maps.sum()) == pytest.approx(1, abs=1e-5)


def test_another_image_or_test_is_evaluated_at_once():
    playing = live()
    for changed in ({"look": 5}, {"tested": "mirrored"}):
        before = playing._maps["bias-map-full"]
        playing.change(playing.values | changed)
        image = playing._data.tests[str(playing.values["tested"])][4:5]
        torch.testing.assert_close(playing._maps["bias-map-full"], saliency(playing._models[FULL], image)[0])
        assert not torch.equal(playing._maps["bias-map-full"], before)
    said = playing._models[CONV](playing._data.tests["mirrored"][:SHOWN]).argmax(-1).tolist()
    assert list(playing.figures()["bias-answers"].data[1].text)[2::4] == [
        f"{found} {'✓' if found == digit else '✗'}"
        for found, digit in list(zip(said, playing._data.truth.tolist(), strict=False))[:10]
    ]


def test_memory_does_not_grow(monkeypatch):
    playing = live()
    monkeypatch.setattr(Images, "accuracies", lambda images, model: [0.5] * (len(TESTS) + 1))
    for _ in range(2000):
        playing._measure()
    assert len(playing._history.steps) <= 401


def test_a_loss_that_is_not_finite_is_reported_each_time():
    playing = live()
    with torch.no_grad():
        next(playing._models[CONV].parameters()).fill_(torch.nan)
    for _ in range(2):
        with pytest.raises(DivergenceError, match="“convolution” is no longer finite"):
            playing.step()


def test_invalid_settings_are_reported_and_replaced():
    values, wrong = from_query(FIELDS, "kind=upside+down&images=1e9&batch=nan&look=0&tested=<b>")
    assert len(wrong) == 5
    assert (values["kind"], values["images"], values["batch"], values["look"], values["tested"]) == (
        "shifted", 1200, 64, 1, "like",
    )  # fmt: skip
    with pytest.raises(InputError):
        InductiveBiasSimulation(values).handle_action("look", 3)


def test_answers_are_below_their_images_with_a_mark_each():
    images, said = np.zeros((4, 2, 2)), {"one": [1, 2, 3, 4], "other": [0, 2, 0, 4]}
    listed = answer_texts([1, 2, 3, 5], said)
    assert listed[0]["text"] == ["1", "1 ✓", "0 ✗", "2", "2 ✓", "2 ✓"]
    assert listed[1]["text"] == ["3", "3 ✓", "0 ✗", "5", "4 ✗", "4 ✗"]
    figure = prediction_grid(images, [1, 2, 3, 5], said, chosen=3)
    assert list(figure.data[3].text) == listed[1]["text"]
    assert list(figure.data[3].customdata) == [2, 2, 2, 3, 3, 3]
    assert figure.layout.shapes[0].yref == "y3"
    owner = figure.data[2].customdata
    assert owner[0][0] == 2
    assert owner[-1][-1] == 3


def test_a_map_lies_on_its_image_and_must_fit():
    figure = saliency_overlay(np.zeros((12, 12)), np.eye(3), "share")
    shown = figure.data[0]
    assert (shown.x0, shown.dx, shown.y0, shown.dy, shown.zmax) == (1.5, 4, 1.5, 4, 1.0)
    with pytest.raises(ValueError, match="divides"):
        saliency_overlay(np.zeros((12, 12)), np.eye(5), "share")


def test_axes_extend_beyond_the_curves_and_so_does_the_chance_line():
    seen, values = np.array([0.0, 64.0]), {"a": np.array([0.1, 0.2])}
    figure = accuracies(seen, values, values, chance=0.1, log_x=True)
    assert [trace.name for trace in figure.data[:2]] == ["a", "a, training"]
    assert list(figure.data[2].x) == [64, 10_000]
    assert figure.layout.xaxis.type == "log"
    assert list(chance_line(np.array([0.0, 64.0, 20_000.0]))) == [64, 20_000]
    assert chance_line(np.array([0.0]))[0] > 0  # for a logarithmic axis

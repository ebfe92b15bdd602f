"""The simulation of the page of slopes, without a page."""

import numpy as np
import pytest
import torch

from limelight.claims.slopes import grid, relative_error, slopes_of, surface_of
from limelight.data.slope_bands import X_MAX
from limelight.errors import DivergenceError, InputError
from limelight.lab.address import read
from limelight.lab.history import History
from limelight.lab.pages.inductive_bias import settings as bias
from limelight.lab.pages.slopes.settings import FIELDS
from limelight.lab.pages.slopes.simulation import SlopesSimulation


def live(**values):
    found, wrong = read(FIELDS, values)
    assert not wrong
    return SlopesSimulation(found)


def error(playing, name="gate"):
    return float(playing.labels()[f"slopes-said-{name}"].split()[1])


def test_both_learn():
    playing = live(rate=0.05)
    before = error(playing), error(playing, "relu")
    for _ in range(300):
        playing.step()
    assert error(playing) < 0.5 * before[0]
    assert error(playing, "relu") < 0.2 * before[1]
    assert playing.labels()["slopes-step"] == "step 300"


def test_the_same_seed_learns_the_same_and_another_does_not():
    runs = [live(seed=seed) for seed in (3, 3, 4)]
    for playing in runs:
        for _ in range(5):
            playing.step()
    surfaces = [playing._evaluate()["gate"].surface for playing in runs]
    np.testing.assert_array_equal(surfaces[0], surfaces[1])
    assert not np.allclose(surfaces[0], surfaces[2])


@pytest.mark.parametrize("outside", [True, False])
def test_one_pass_through_a_network_gives_the_numbers_of_the_claim(outside):
    playing = live(outside=outside)
    for _ in range(20):
        playing.step()
    x, y = grid(2 * X_MAX if outside else X_MAX)
    for name, found in playing._evaluate().items():
        with torch.no_grad():
            model = playing._models[name]
            np.testing.assert_allclose(found.surface, surface_of(model, x, y), atol=1e-5)
            np.testing.assert_allclose(found.slopes, slopes_of(model), atol=1e-5)
            assert found.error == pytest.approx(float(relative_error(model, *playing._data)), rel=1e-4)


@pytest.mark.parametrize("changed", [{"outside": False}, {"temperature": 0.5}, {"a1": 3}, {"experts": 2}, {"seed": 1}])
def test_what_the_networks_say_follows_the_settings(changed):
    playing = live()
    playing.labels()
    playing.change(playing.values | changed)
    fresh = {name: playing._evaluate()[name].surface for name in playing._models}
    playing._evaluations = {}
    for name, surface in fresh.items():
        np.testing.assert_array_equal(surface, playing._evaluate()[name].surface)


def test_updates_change_the_traces_that_were_drawn():
    playing = live()
    drawn = playing.figures()
    for _ in range(30):
        playing.step()
    updates = playing.updates()
    assert updates.keys() == drawn.keys()
    for place, changes in updates.items():
        for trace, attributes in changes:
            assert set(attributes) <= set(drawn[place].data[trace].to_plotly_json()) | {"mode"}
    z = np.frombuffer(__import__("base64").b64decode(updates["slopes-gate"][0][1]["z"]["bdata"]), "<f4")
    np.testing.assert_allclose(z.reshape(40, 40), playing.figures()["slopes-gate"].data[0].z, rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "keeps"),
    [({"temperature": 0.5}, True), ({"a1": 3}, True), ({"rate": 0.1}, True), ({"experts": 2}, False)],
)
def test_a_setting_that_does_not_change_a_network_keeps_what_it_has_learned(changed, keeps):
    playing = live()
    for _ in range(20):
        playing.step()
    learned = playing._models["gate"][0].experts.detach().clone()
    playing.change(playing.values | changed)
    now = playing._models["gate"][0].experts
    assert (now.shape == learned.shape and torch.equal(now, learned)) == keeps


def test_the_slopes_that_are_set_are_those_of_the_data():
    points, z = live(a1=3.0, noise=0.0)._data
    band = points[:, 1] < -1.6
    torch.testing.assert_close(z[band], 3 * points[band, 0])


def test_own_data_replace_the_drawn_and_go_again():
    playing = live()
    rows = torch.rand(30, 3).tolist()
    playing.handle_action("data", rows)
    assert len(playing._data[0]) == 30
    assert "slopes found" not in playing.labels()["slopes-said-gate"]
    playing.change(playing.values | {"noise": 0.5})
    assert len(playing._data[0]) == 30
    playing.handle_action("data", [])
    assert len(playing._data[0]) == 500


@pytest.mark.parametrize(("name", "given"), [("data", [[1, 2]]), ("fly", None)])
def test_invalid_arguments_are_refused(name, given):
    with pytest.raises(InputError):
        live().handle_action(name, given)


def test_a_history_stays_short_and_keeps_its_whole_length():
    history = History(2)
    for step in range(100_000):
        history.add(step, [step, -step])
    assert len(history.steps) <= 401
    assert history.steps[0] == 0
    assert history.steps[-1] == 99_999
    np.testing.assert_array_equal(history.values[0], history.steps)


def test_a_loss_that_is_no_longer_finite_is_reported_again_and_again():
    playing = live()
    with torch.no_grad():
        playing._models["gate"][0].experts.fill_(float("nan"))
    for _ in range(2):
        with pytest.raises(DivergenceError, match="lower the learning rate"):
            playing.step()


def test_another_page_s_values_change_nothing():
    playing = live()
    assert playing.differing(read(bias.FIELDS, {})[0]) == set()
    assert playing.differing({**playing.values, "experts": 3}) == {"experts"}

"""The page of the operator without a browser: the code that it writes, the input that it accepts, and its pictures."""

import json
import subprocess
import sys
from contextlib import nullcontext, suppress
from itertools import cycle, islice, product

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from limelight import figures
from limelight.data.plane_points import ARRANGEMENTS, COORDINATE_MAX, arrangement
from limelight.errors import InputError, UnknownNameError
from limelight.figures.plane import PlaneScene, plane_traces
from limelight.lab.address import from_query, read, to_query
from limelight.lab.pages.operator import settings
from limelight.lab.pages.operator.process import MOVING
from limelight.lab.pages.operator.settings import FIELDS, MASKS, MOST, NORMALIZATIONS, PROCESSES, SIMILARITIES
from limelight.lab.pages.operator.simulation import OperatorSimulation
from limelight.lab.point_text import decoded, encoded
from limelight.propagation import resolvent, steps


def live(**values):
    chosen, wrong = read(FIELDS, {"n": 9, "point": 4, **values})
    assert not wrong
    return OperatorSimulation(chosen)


def run(page):
    """The numbers that the page's code computes."""
    names = {}
    exec(page.labels()["operator-code"], names)
    return names


def agrees(page):
    made, shown = run(page), page._picture()
    torch.testing.assert_close(made["A"].dense(), torch.from_numpy(shown.matrix), rtol=0, atol=1e-12)
    torch.testing.assert_close(made["weights"], torch.from_numpy(shown.scene.weights), rtol=0, atol=1e-12)
    torch.testing.assert_close(made["entropy"], torch.from_numpy(shown.entropy), rtol=0, atol=1e-12)
    torch.testing.assert_close(made["mass"], torch.from_numpy(shown.mass), rtol=0, atol=1e-12)
    torch.testing.assert_close(made["x"], page._state.x, rtol=0, atol=1e-12)
    if page._state.h is not None:
        torch.testing.assert_close(made["h"], page._state.h, rtol=0, atol=1e-12)


@pytest.mark.parametrize("every_mask", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("process", PROCESSES)
def test_the_code_computes_the_shown_numbers_for_all_choices(process, every_mask):
    """Every similarity with every normalization, with all masks, or with one mask each in turn."""
    masks = cycle(MASKS)
    next(islice(masks, [*PROCESSES].index(process), None))
    offered = ((each, MASKS if every_mask else [next(masks)]) for each in product(SIMILARITIES, NORMALIZATIONS))
    for similarity, normalization, mask in ((*each, mask) for each, some in offered for mask in some):
        alpha = 0.35 if mask != "causal" else 0.0
        page = live(similarity=similarity, normalization=normalization, mask=mask, process=process, alpha=alpha,
                    bandwidth=0.63, seed=3)  # fmt: skip
        # Rows of sigmoids may sum to more than one. A process that diverges is stopped, and the code has the steps
        # before.
        with suppress(InputError) if normalization == "sigmoid" else nullcontext():
            page.step()
            page.step()
            assert page._steps == 2
        agrees(page)


def test_the_code_runs_as_a_program():
    page = live(process="heat", mask="window", alpha=0.5)
    page.step()
    code = page.labels()["operator-code"] + "\nprint(h.sum().item())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not ran.stderr
    assert float(ran.stdout) == pytest.approx(float(page._state.h.sum()), abs=1e-12)


def test_processes_are_those_of_the_library():
    heat, labels, climb = live(process="heat"), live(process="labels"), live(process="climb", bandwidth=0.8)
    start = heat._state.h
    for _ in range(5):
        heat.step()
    torch.testing.assert_close(heat._state.h, steps(heat.A, start, 5))
    for _ in range(150):
        labels.step()
    torch.testing.assert_close(labels._state.h, resolvent(labels.A, labels._state.y, 0.9), rtol=0, atol=1e-4)
    keys, h = climb._state.keys, 0.8
    climb.step()
    kernel = torch.exp(-torch.cdist(keys, keys).square() / (2 * h * h))
    torch.testing.assert_close(climb._state.x, kernel @ keys / kernel.sum(1, keepdim=True))
    assert climb._state.keys is keys


def test_drifting_points_fall_together_and_then_it_stops():
    page = live(process="drift", bandwidth=1.5)
    while page.step():
        assert page._steps < 500
    assert "converged" in page.labels()["operator-step"]
    assert float((page._state.x - page._state.x[0]).abs().max()) < 1e-4


def test_a_refused_combination_keeps_the_picture_and_says_why():
    page = live()
    page.step()
    before, code = page._picture().matrix, page.labels()["operator-code"]
    page.change({**page.values, "alpha": 0.5, "mask": "causal"})
    note = page.labels()["note"]
    assert "would leak the future" in note
    assert np.array_equal(page._picture().matrix, before)
    assert page.labels()["operator-code"] == code
    page.change({**page.values, "mask": "none"})
    assert "note" not in page.labels()
    assert page._steps == 0
    agrees(page)


def test_a_link_to_a_refused_combination_opens():
    page = live(alpha=0.5, mask="causal")
    assert "would leak the future" in page.labels()["note"]
    agrees(page)
    page.step()
    agrees(page)
    page.change({**page.values, "alpha": 0.0})
    assert "note" not in page.labels()


def test_a_process_that_diverges_stops_with_a_sentence():
    page = live(normalization="sigmoid", similarity="dot", bandwidth=0.1, n=60)
    with pytest.raises(InputError, match="left the picture"):
        for _ in range(100):
            page.step()
    assert float(page._state.x.abs().max()) <= 2 * COORDINATE_MAX
    agrees(page)


def test_a_moved_point_is_part_of_the_link():
    page = live()
    page.step()
    page.handle_action("move", [4, 1.2344, -2])
    assert page._points[3].tolist() == [1.234, -2.0]
    assert page._steps == 0
    agrees(page)
    page.change({**page.values, "bandwidth": 0.7})
    query = to_query(FIELDS, page.values)
    values, wrong = from_query(FIELDS, query)
    assert not wrong
    again = OperatorSimulation(values)
    assert torch.equal(again._points, page._points)
    assert again.labels()["operator-code"] == page.labels()["operator-code"]


def test_a_move_keeps_drifted_positions_but_restarts_other_processes():
    for process in PROCESSES:
        page = live(process=process)
        start = page._points
        page.step()
        there = page._state.x
        page.handle_action("move", [4, 2.0, 2.0])
        others = [i for i in range(9) if i != 3]
        if process == "drift":
            torch.testing.assert_close(page._points[others], there[others], rtol=0, atol=6e-4)
        else:
            assert torch.equal(page._points[others], start[others])


def test_moves_are_forgotten_when_points_are_drawn_again():
    for change in ({"seed": 5}, {"n": 12}, {"arrangement": "ring"}):
        page = live()
        page.handle_action("move", [4, 1.0, 1.0])
        stale = page.values["moved"]
        assert stale
        page.change({**page.values, **change})
        assert page.values["moved"] == page.labels()["operator-moved"] == ""
        assert torch.equal(page._points, page._arranged())
        page.change({**page.values, "moved": stale})  # the page does not know the move yet
        assert torch.equal(page._points, page._arranged())
    page.handle_action("move", [4, 1.0, 1.0])
    page.handle_action("arrange", None)
    assert torch.equal(page._points, page._arranged())


@pytest.mark.parametrize(
    "given",
    [None, "there", 5, {}, [], [1, 0], [0, 0, 0], [10, 0, 0], [1.5, 0, 0], [True, 0, 0], [1, "0", 0], [1, None, 0],
     [1, float("nan"), 0], [1, float("inf"), 0], [1, 10**400, 0], [1, 0, 9], [1, 0, 0, 0], ["x" * 10**6, 0, 0]],
)  # fmt: skip
def test_an_invalid_move_is_refused_and_changes_nothing(given):
    page = live()
    before = page._points.clone()
    with pytest.raises(InputError, match=r"A move must be|Coordinates must lie") as told:
        page.handle_action("move", given)
    assert len(str(told.value)) < 200
    assert torch.equal(page._points, before)


def test_an_unknown_action_is_refused():
    with pytest.raises(InputError, match="no action called"):
        live().handle_action("fly", None)


@pytest.mark.parametrize(
    "text", ["!!!", "A", "AAAA", "x" * 5000, "A" * 2000, "é", encoded({0: (3.0, 0.0)}), encoded({61: (0, 0)})]
)
def test_an_invalid_text_of_moved_points_is_reported(text):
    values, wrong = read(FIELDS, {"moved": text})
    assert values["moved"] == ""
    assert len(wrong) == 1
    assert "encodes no positions of points" in wrong[0]


def test_positions_survive_encoding_and_decoding():
    places = {0: (0.001, -2.5), 7: (2.5, 1.234), 59: (-0.5, 0.0)}
    assert decoded(encoded(places), MOST, COORDINATE_MAX) == places
    everywhere = dict.fromkeys(range(MOST), (-2.5, 2.5))
    assert decoded(encoded(everywhere), MOST, COORDINATE_MAX) == everywhere
    assert len(encoded(everywhere)) <= 400
    assert decoded("", MOST, COORDINATE_MAX) == {}


def test_moved_points_that_are_not_there_are_left_out():
    page = live(n=5, moved=encoded({40: (1.0, 1.0), 2: (0.5, 0.5)}))
    assert page._points[2].tolist() == [0.5, 0.5]
    assert len(page._points) == 5


def test_the_same_seed_the_same_points_and_another_others():
    assert live(seed=4).labels() == live(seed=4).labels()
    assert live(seed=4).labels()["operator-code"] != live(seed=5).labels()["operator-code"]


def test_what_is_sent_and_kept_does_not_grow():
    page = live(n=60, process="circle", bandwidth=0.2, seed=1)
    sizes = []
    for _ in range(120):
        page.step()
        sizes.append(len(json.dumps(page.updates())))
    assert len(page._trail) == 41
    assert max(sizes) < 100_000
    assert sizes[-1] <= sizes[60] * 1.01


def test_updates_change_what_figures_drew():
    """An updated picture equals a newly drawn one."""
    for process, color in [*((name, "auto") for name in PROCESSES), ("drift", "entropy"), ("climb", "mass")]:
        page = live(process=process, color=color)
        drawn = dict(page.figures())
        page.step()
        updates, anew = page.updates(), page.figures()
        for place, changes in updates.items():
            for trace, attributes in changes:
                drawn[place].data[trace].update({name: _numbers(value) for name, value in attributes.items()})
            for ours, theirs in zip(drawn[place].data, anew[place].data, strict=True):
                assert_same(ours.to_plotly_json(), theirs.to_plotly_json())


def _numbers(value):
    if not isinstance(value, dict) or "bdata" not in value:
        return value
    import base64

    shape = [int(length) for length in value["shape"].split(",")]
    return np.frombuffer(base64.b64decode(value["bdata"]), "<f4").reshape(shape)


def assert_same(ours, theirs):
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert_same(ours[name], theirs[name])
    elif isinstance(theirs, np.ndarray | list | tuple) and len(theirs) and not isinstance(theirs[0], str | list | dict):
        np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), atol=1e-5)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-5)
    else:
        assert np.array_equal(ours, theirs)


def test_the_texts_have_the_right_numbers():
    page = live(n=12, point=12)
    words = page.labels()
    entropy = float(page.A.entropy()[-1])
    assert f"entropy {entropy:.2f} nats" in words["operator-said"]
    assert words["operator-said"].startswith("Point 12 at (")
    assert f"Smallest: {float(page.A.column_mass().min()):.2f}" in words["operator-said-mass"]


def test_a_choice_of_a_point_beyond_the_last_is_the_last():
    page = live(n=7, point=60)
    assert page.labels()["operator-said"].startswith("Point 7 ")


def test_heat_begins_at_the_chosen_point():
    page = live(process="heat")
    page.step()
    page.change({**page.values, "point": 6})
    assert page._steps == 0
    assert page._state.h[:, 0].argmax() == 5
    moving = live(process="drift")
    moving.step()
    moving.change({**moving.values, "point": 6})
    assert moving._steps == 1


@pytest.mark.parametrize("name", ARRANGEMENTS)
@pytest.mark.parametrize("n", [1, 5, 60])
def test_arrangements_are_in_reach_and_can_be_written_down(name, n):
    points = arrangement(name, n, seed=2)
    assert points.shape == (n, 2)
    assert points.dtype == torch.float64
    assert float(points.abs().max()) <= COORDINATE_MAX
    assert points.tolist() == [[float(f"{x:.3f}"), float(f"{y:.3f}")] for x, y in points.tolist()]
    assert torch.equal(points, arrangement(name, n, seed=2))


def test_an_unknown_arrangement_is_refused():
    with pytest.raises(UnknownNameError, match="moons"):
        arrangement("moon", 5, 0)
    with pytest.raises(InputError, match="at least one"):
        arrangement("ring", 0, 0)


def shown(**other):
    x = arrangement("ring", 6, 0)
    weights = np.array([0.03, 0.08, 1.0, 0.15, 0.5, 0.01])
    return PlaneScene(x.numpy(), x.numpy(), weights, 2, weights, "weight", (0.0, 1.0), **other)


def test_every_key_of_some_weight_has_a_line_and_heavier_ones_a_thicker():
    scene = shown()
    widths = {}
    for trace in plane_traces(scene)[1:8]:
        ends = np.stack([trace["x"], trace["y"]], -1)[1::3]
        for end in ends:
            widths[int(np.abs(scene.keys - end).sum(1).argmin())] = trace["line"]["width"]
    share = scene.weights / scene.weights.max()
    assert set(widths) == set(np.flatnonzero(share >= 0.02))
    order = sorted(widths, key=lambda key: scene.weights[key])
    assert [widths[key] for key in order] == sorted(widths.values())
    assert len(set(widths.values())) > 2


def test_figures_have_no_background_and_all_that_is_shown():
    trail = np.stack([shown().points, shown().points + 0.1])
    plane = figures.plane(shown(trail=trail, labeled=(0, 5), apart=True), COORDINATE_MAX)
    assert isinstance(plane, go.Figure)
    assert plane.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert np.isnan(np.asarray(plane.data[0].x, float)).sum() == 6
    assert len(plane.data[8].x) == 6
    assert list(plane.data[9].marker.symbol).count("square") == 2
    bars = figures.bars(np.arange(4.0), 1, "key", "mass", 1.0, "one")
    assert list(bars.data[0].marker.color).count(bars.data[0].marker.color[1]) == 1
    framed = figures.chosen_row(np.eye(4), 1)
    assert set(framed.data[1].y) == {1.5, 2.5}


def test_the_statements_of_the_tour_are_true():
    lonely = live(n=30, mask="others")
    lonely.handle_action("move", [1, 2.4, 2.4])
    assert lonely._picture().mass[0] < 1e-3
    lonely.change({**lonely.values, "alpha": 1.0})
    assert lonely._picture().mass[0] > 1 / 30
    for similarity, most in (("dot", 5), ("euclidean", 0)):
        far = live(n=30, similarity=similarity)
        far.handle_action("move", [1, 2.4, 2.4])
        assert (far._picture().mass[0] > 1 + most) == (most > 0)
    for bandwidth, clusters in ((0.5, 3), (1.0, 1)):
        blobs = live(n=30, arrangement="blobs", bandwidth=bandwidth)
        for _ in range(30):
            blobs.step()
        assert f"about {clusters}.0 clusters" in blobs.labels()["operator-step"]
    for bandwidth, along in ((0.25, True), (1.0, False)):
        moons = live(n=30, process="labels", bandwidth=bandwidth)
        while moons.step():
            assert moons._steps < 100
        values = moons._picture().scene.values
        assert (bool((values[:15] > 0.5).all()) and bool((values[15:] < 0.5).all())) == along


def test_only_moving_points_leave_a_trail():
    for process in PROCESSES:
        page = live(process=process)
        page.step()
        assert (page._picture().scene.trail is not None) == (process in MOVING)


def test_a_point_may_be_moved_as_far_as_arrangements_reach():
    assert settings.COORDINATE_MAX == COORDINATE_MAX

"""The settings in an address, and how invalid ones are replaced."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight.lab.address import Choice, Number, Switch, from_query, read, to_query
from limelight.lab.controls import from_control, to_control
from limelight.lab.pages import PAGES

FIELDS = (
    Number("n", "How many", 1, 10, 5),
    Number("h", "Bandwidth", 0.01, 100, 1, 0.01, log=True),
    Choice("way", "Way", {"up": "upwards", "down": "downwards"}, "up"),
    Switch("loud", "Loud", False),
    Number("seed", "Seed", 0, 99, 0),
)
VALUES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 10),
        "h": st.floats(0.01, 100).map(lambda h: float(f"{h:.6g}")),
        "way": st.sampled_from(["up", "down"]),
        "loud": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


@given(VALUES)
def test_values_survive_the_address(values):
    assert from_query(FIELDS, to_query(FIELDS, values)) == (values, [])


@given(st.text(max_size=200))
def test_any_text_gives_values_that_are_allowed(query):
    values, _ = from_query(FIELDS, query)
    assert read(FIELDS, values) == (values, [])


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in FIELDS]), st.none() | st.floats() | st.text() | st.lists(st.integers())
    )
)
def test_anything_from_a_page_gives_values_that_are_allowed(given):
    values, _ = read(FIELDS, given)
    assert read(FIELDS, values) == (values, [])


@pytest.mark.parametrize(
    ("query", "name", "value", "told"),
    [
        ("?n=many", "n", 5, "“many” is not a number; 5 is used"),
        ("?n=99", "n", 10, "99 is not between 1 and 10; 10 is used"),
        ("?n=nan", "n", 5, "not a number"),
        ("?h=-1", "h", 0.01, "not between"),
        ("?way=dwon", "way", "down", "“dwon” is not one of up, down; down is used"),
        ("?loud=maybe", "loud", False, "neither on nor off"),
        ("?nothing=1", "n", 5, "no setting called “nothing”"),
        ("?" + "n=1&" * 2000, "n", 5, "longer than"),
    ],
)
def test_invalid_values_are_replaced_and_reported(query, name, value, told):
    values, wrong = from_query(FIELDS, query)
    assert values[name] == value
    assert len(wrong) == 1
    assert told in wrong[0]


def test_the_address_has_the_seed_and_values_that_are_not_defaults():
    assert to_query(FIELDS, read(FIELDS, {"n": 7})[0]) == "?n=7&seed=0"


@pytest.mark.parametrize("field", [field for page in PAGES for field in page.fields], ids=lambda field: field.name)
def test_every_default_is_allowed_and_a_control_can_hold_it(field):
    value, wrong = field.read(field.default)
    assert not wrong
    back, wrong = field.read(from_control(field, to_control(field, value)))
    assert not wrong
    assert back == pytest.approx(value, rel=0.05) if isinstance(value, float) else back == value


def test_a_control_that_nobody_touched_changes_nothing():
    field = FIELDS[1]
    for value in (0.0123, 7.77, 55.5):
        held = to_control(field, value)
        assert from_control(field, held, value) == value
        assert from_control(field, held + 1, value) > value


@pytest.mark.parametrize("held", [None, "x", [], "1e999", {"a": 1}])
def test_a_value_that_a_control_cannot_hold_is_reported(held):
    for field in FIELDS:
        value, _ = field.read(from_control(field, held))
        assert field.read(value) == (value, "")

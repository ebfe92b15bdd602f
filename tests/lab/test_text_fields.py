"""Fields for a text, and lists whose names only the simulation knows: in addresses, in messages, and on the page."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight.lab import controls
from limelight.lab.address import LONGEST, Listed, Number, Text, from_query, read, to_query
from tests.lab.test_websocket import Sessions as Recorded
from tests.lab.test_websocket import asked, talk

FIELDS = (Text("text", "Text to read", 80, "A cat."), Listed("head", "Head", "first"), Number("n", "How many", 1, 9, 5))
ODD = ["<script>alert(1)</script>", "a & b = c?d#e %41 +", "  two\nlines\t", "🧑‍🔬🙂é", "\u202eאבג", "null", "0"]


@pytest.mark.parametrize("text", ODD)
def test_a_text_survives_the_address(text):
    values = {"text": text, "head": "3.1", "n": 5}
    assert from_query(FIELDS, to_query(FIELDS, values)) == (values, [])


@given(st.text(max_size=90))
def test_any_text_is_kept_whole_or_replaced_with_a_sentence(text):
    value, wrong = FIELDS[0].read(text)
    assert (value == text and not wrong) or (value == "A cat." and wrong.startswith("Text to read: "))
    assert from_query(FIELDS, to_query(FIELDS, {"text": value, "head": "first", "n": 5}))[0]["text"] == value


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("x" * 81, "this text has 81 characters, and the field takes at most 80, so it is not used"),
        (12_345, "this text has 12,345 characters"),  # a page sends the length of a text that no message may hold
        ("", "no words"),
        (" \n ", "no words"),
        ("a\x1b[31mb", "the control character U+001B"),
        ("a\0", "U+0000"),
        ("\ud800", "U+D800"),
        (None, "not a text"),
        (True, "not a text"),
        (7, "not a text"),
        (["a"], "not a text"),
    ],
)
def test_a_text_that_cannot_be_used_is_replaced_as_a_whole(given, told):
    value, wrong = FIELDS[0].read(given)
    assert value == "A cat."
    assert told in wrong


def test_a_text_must_fit_into_an_address():
    field = Text("text", "Text", 800, "A")
    value, wrong = field.read("漢" * 400)  # nine characters of an address for each
    assert (value, "3,600 characters of the page’s address" in wrong.replace("'", "’")) == ("A", True)
    longest = field.read("漢" * 333)[0]
    assert len(to_query([field], {"text": longest})) < LONGEST


@pytest.mark.parametrize("given", ["", "x" * 41, "a\nb", "\x1b", None, 3, []])
def test_a_name_that_no_list_can_have_is_replaced(given):
    value, wrong = FIELDS[1].read(given)
    assert value == "first"
    assert wrong.startswith("Head: ")


def test_the_last_text_stays_and_the_sentence_is_at_the_field():
    before = {"text": "A dog.", "head": "2.2", "n": 3}
    values, wrong = controls.held(FIELDS, {"text": "x" * 100, "head": "3.3", "n": "99"}, before)
    assert values == {"text": "A dog.", "head": "3.3", "n": 9}
    told = controls.settings(FIELDS, values, wrong)
    assert told["faults"]["text"].startswith("Text to read: this text has 100 characters")
    assert told["faults"]["head"] == ""
    assert told["wrong"] == "How many: 99 is not between 1 and 9; 9 is used."
    assert "A+dog" in told["query"]


def test_a_control_holds_the_value_and_has_places_for_sentences():
    for field, value in zip(FIELDS, ["A\ndog.", "3.3", 4], strict=True):
        shown = json.dumps(controls.control(field, value).to_plotly_json(), default=lambda x: x.to_plotly_json())
        if not isinstance(field, Number):
            assert json.dumps(value) in shown
            assert all(f'"{kind}": "{field.name}"' in shown for kind in ("field", "fault", "refused"))
    assert "maxLength" not in shown  # a browser would cut a pasted text, and not say so


def test_messages_with_texts_are_checked():
    page = f"page=microscope&key={'0' * 8}-0000-4000-8000-{'0' * 12}"
    for text, told in [("<b>bold</b>", ""), ("y" * 900, "900 characters"), (5000, "5,000 characters")]:
        sessions = Recorded()
        sent = talk(asked(text="A dog."), json.dumps({"set": {"text": text}}), sessions=sessions, query=page)
        (settings,) = [json.loads(each["text"])["settings"] for each in sent if "settings" in each.get("text", "")]
        assert told in settings["faults"]["text"]
        assert bool(told) == bool(settings["faults"]["text"])
        assert sessions.sent[-1][2]["values"]["text"] == ("A dog." if told else text)
    sent = talk(json.dumps({"set": {"text": "z" * (LONGEST + 1)}}), query=page)
    assert sent[-1]["code"] == 4400


def test_unknown_names_of_a_list_are_left_to_the_simulation():
    assert read(FIELDS, {"head": "<img src=x>"}) == ({"text": "A cat.", "head": "<img src=x>", "n": 5}, [])

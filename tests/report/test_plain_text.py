"""Untrusted texts on a terminal: control sequences have no effect, and every encoding shows readable text."""

import pytest
from typer.main import get_command

from limelight import cli
from limelight.experiment import catalog
from limelight.report import terminal
from limelight.report.effect_text import number
from limelight.report.plain_text import encodable, one_line, visible
from tests.experiment.strange import ESCAPES

OBEYED = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F))} - {"\n", "\t"}


def test_control_sequences_are_shown_as_escapes():
    shown = visible(f"a\tb\n[red]{ESCAPES}é α\u2028")
    assert shown == "a\tb\n[red]\\x1b[31m\\x1b]0;title\\x07\\x9b2J\\x7f\\u202e\\xe9é α\\u2028"
    assert not OBEYED & set(visible("".join(map(chr, range(0x3000)))))
    assert one_line("first\r\n  second\tthird\n") == "first\\x0d second third"


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("2 ≥ α, −x² − x₁", "2 >= alpha, -x^2 - x_1"), ("Δh → ½ · Γ", "Deltah -> 1/2 * Gamma"), ("é ø 漢", "e o \\u6f22"),
     ("\udce9", "\\xe9")],
)  # fmt: skip
def test_characters_that_ascii_lacks_are_spelled(text, spelled):
    assert encodable(text, "ascii") == spelled


def test_an_encoding_keeps_what_it_has():
    assert encodable("é · ² ≥", "latin-1") == "é · ² >="
    assert encodable("é · ² ≥", "utf-8") == "é · ² ≥"


def texts():
    """Every text of the command line itself: those of each claim and of each help page."""
    for claim in catalog.claims():
        yield from (claim.title, claim.question, claim.source, *claim.arms, *claim.arms.values())
        yield from (
            text for name, measure in claim.measures.items() for text in (name, measure.description, measure.unit)
        )
        expected = claim.expected()
        yield from (text for part in (*expected.parts, expected.control) for text in (part.description, part.unit))
    command = get_command(cli.app)
    yield from (command.help, command.epilog)
    for each in command.commands.values():
        yield from (each.help or "", *(parameter.help or "" for parameter in each.params))
    yield from map(number, (-1.0, float("inf"), float("-inf"), 1e-9))
    yield from terminal.MARKS.values()


def test_every_text_of_the_command_line_can_be_spelled_in_ascii():
    for text in texts():
        assert "\\" not in encodable(text, "ascii"), text
        assert visible(text) == text

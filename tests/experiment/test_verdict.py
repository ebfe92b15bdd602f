"""From parts to a verdict: every combination, and the control that can make it inconclusive."""

import pytest

from limelight.experiment.statistics import Interval, exact
from limelight.experiment.verdict import Part, Verdict

HOLDS, FAILS, OPEN = Interval(2.0, 1.5, 2.5, 10), Interval(0.0, -0.5, 0.5, 10), Interval(1.0, 0.5, 1.5, 10)


def part(effect, says="it is at least one", expects="at least"):
    return Part(says, effect, expects, 1.0)


CONTROL = part(FAILS, "the control is at least one")


@pytest.mark.parametrize(
    ("effects", "outcome"),
    [
        ([HOLDS], "supported"),
        ([HOLDS, HOLDS], "supported"),
        ([FAILS, FAILS], "refuted"),
        ([HOLDS, FAILS], "mixed"),
        ([HOLDS, FAILS, OPEN], "mixed"),
        ([HOLDS, OPEN], "inconclusive"),
        ([FAILS, OPEN], "inconclusive"),
        ([OPEN], "inconclusive"),
    ],
)
def test_parts_make_a_verdict(effects, outcome):
    assert Verdict.of([part(effect) for effect in effects], CONTROL).outcome == outcome


def test_a_part_is_decided_where_its_whole_interval_is_on_one_side():
    assert part(HOLDS).outcome == "holds"
    assert part(FAILS).outcome == "fails"
    assert part(OPEN).outcome == "undecided"
    assert part(HOLDS, expects="at most").outcome == "fails"
    assert part(FAILS, expects="at most").outcome == "holds"
    assert part(OPEN, expects="at most").outcome == "undecided"
    assert part(Interval(1.0, 1.0, 1.0, 10)).outcome == "holds"


@pytest.mark.parametrize(("effect", "says"), [(HOLDS, "passed"), (OPEN, "did not clearly fail")])
def test_a_control_that_does_not_fail_leaves_everything_open(effect, says):
    verdict = Verdict.of([part(HOLDS)], part(effect, "the control is at least one"))
    assert verdict.outcome == "inconclusive"
    assert f"The control {says}" in verdict.sentence
    assert "the control is at least one" in verdict.sentence


def test_too_few_seeds_leave_everything_open():
    verdict = Verdict.of([part(Interval(2.0, 1.5, 2.5, 9))], CONTROL)
    assert (verdict.outcome, verdict.sentence) == ("inconclusive", "Too few seeds to judge: 9 of at least 10.")


def test_the_sentence_says_which_half_held():
    verdict = Verdict.of([part(HOLDS, "a"), part(FAILS, "b"), part(OPEN, "c"), part(HOLDS, "d")], CONTROL)
    assert verdict.sentence == "Holds: a; d. Does not hold: b. Undecided: c."


def test_many_parts_are_counted():
    verdict = Verdict.of([part(HOLDS, "a")] * 6 + [part(FAILS, "b")] * 2, CONTROL)
    assert verdict.sentence == "Holds: 6 of 8 parts. Does not hold: b; b."


def sampled(p):
    """An effect on the expected side of 1, whose p-value is p."""
    return Interval(2.0, 1.5, 2.5, 10, bounds=lambda confidence: (0.5, 3.5) if 1 - confidence < p else (1.5, 2.5))


def test_a_part_is_undecided_where_correction_for_several_parts_takes_it_back():
    alone = Verdict.of([part(sampled(0.015))], CONTROL)
    assert alone.parts[0].outcome == "holds"
    assert alone.parts[0].p == pytest.approx(0.015)
    five = Verdict.of([part(sampled(0.015))] * 5, CONTROL)
    assert [each.outcome for each in five.parts] == ["undecided"] * 5
    stronger = Verdict.of([part(sampled(0.001))] * 3 + [part(sampled(0.015))] * 2, CONTROL)
    assert [each.outcome for each in stronger.parts] == ["holds"] * 5


def test_an_exact_part_holds_where_every_run_meets_it_and_needs_no_correction():
    some, every = exact([0.5, 2.0] * 5), exact([1.5, 2.0] * 5)
    assert part(some).outcome == "fails"
    assert part(every).outcome == "holds"
    verdict = Verdict.of([part(every)] * 9 + [part(sampled(0.015))], part(exact([0.0] * 10)))
    assert verdict.outcome == "supported"
    assert verdict.parts[0].p is None


def test_what_cannot_be_judged_says_so():
    assert not Verdict.of([part(HOLDS)], part(HOLDS)).is_judged
    assert Verdict.of([part(OPEN)], CONTROL).is_judged

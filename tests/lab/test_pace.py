"""How often measurements are made that take longer than a step, with a clock that the test controls."""

import pytest

from limelight.lab.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 50.0

    monkeypatch.setattr("limelight.lab.pace.time.monotonic", lambda: Clock.now)
    return Clock


def measured(pace, clock, seconds):
    """How long the next measurement must wait after one that takes so many seconds."""
    with pace.measuring():
        clock.now += seconds
    end = clock.now
    while not pace.is_due:
        clock.now += 0.125
    return clock.now - end


def test_the_first_is_due_at_once(clock):
    assert Pace(0.5).is_due


def test_a_quick_one_is_made_once_in_each_pause(clock):
    assert measured(Pace(0.5), clock, 0.01) == 0.5


@pytest.mark.parametrize(("share", "wait"), [(0.5, 2.0), (0.25, 6.0), (0.1, 18.0)])
def test_a_slow_one_takes_no_more_than_its_share(clock, share, wait):
    assert measured(Pace(0.5, share), clock, 2.0) == pytest.approx(wait, abs=0.126)


def test_one_that_is_postponed_waits_for_a_pause(clock):
    pace = Pace(0.5)
    pace.postpone()
    assert not pace.is_due
    clock.now += 0.5
    assert pace.is_due

"""How much longer a training takes, as it is told."""

from __future__ import annotations

import pytest

from training.pace import FEWEST, Pace, TimeLimits, said


def after(times: list[float]) -> Pace:
    clock = iter([sum(times[:i]) for i in range(len(times) + 1)])
    pace = Pace(clock=lambda: next(clock))
    for _ in range(len(times) + 1):
        pace.step()
    return pace


def test_nothing_is_told_before_it_is_measured() -> None:
    assert after([2.0] * (FEWEST - 1)).seconds_left(100) is None
    assert said(None).startswith("measuring")


@pytest.mark.parametrize(
    ("times", "left"),
    [
        ([2.0] * 5, 200),
        ([1.0, 3.0, 1.0, 1.0, 3.0, 3.0] * 5, 200),
        (([2.0] * 9 + [42.0]) * 4, 600),
        ([2.0] * 60 + [4.0] * 20, 400),
    ],
    ids=["even", "short and long batches", "evaluations", "another process"],
)
def test_what_is_told_is_right_within_a_quarter(times: list[float], left: float) -> None:
    assert after(times).seconds_left(100) == pytest.approx(left, rel=0.25)


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (TimeLimits(after=30), 230),
        (TimeLimits(steps=1000, after=30), 230),
        (TimeLimits(steps=60, after=30), 60 - 20 + 30),
        (TimeLimits(steps=15, after=30), 30),
    ],
    ids=["no limit", "more than it needs", "less than it needs", "over"],
)
def test_what_comes_after_the_steps_is_told_and_no_more_than_the_limit(limits: TimeLimits, left: float) -> None:
    times = iter([0.0, *(2.0 * step for step in range(11)), 20.0])
    pace = Pace(limits, lambda: next(times, 20.0))
    pace.begin()
    for _ in range(11):
        pace.step()
    assert pace.seconds_left(100) == pytest.approx(left)


def test_a_training_is_as_far_as_its_steps_or_its_time_whichever_is_further() -> None:
    now = 100.0
    pace = Pace(TimeLimits(steps=50), lambda: now)
    assert pace.share(10, 100) == 0.1
    pace.begin(spent=5)
    assert (pace.share(3, 100), pace.share(20, 100)) == (0.1, 0.2)
    now += 44
    assert (pace.share(20, 100), pace.is_over) == (0.98, False)
    now += 10
    assert (pace.share(20, 100), pace.is_over) == (1.0, True)
    assert not Pace(clock=lambda: now).is_over


def test_the_time_is_told_in_minutes() -> None:
    assert [said(seconds) for seconds in (10, 61, 290)] == [
        "less than a minute left",
        "about 1 min left",
        "about 5 min left",
    ]

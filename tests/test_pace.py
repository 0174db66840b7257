"""How much longer a training takes, as it is told."""

from __future__ import annotations

import pytest

from training.pace import FEWEST, Pace, said


def after(times: list[float]) -> Pace:
    clock = iter([sum(times[:i]) for i in range(len(times) + 1)])
    pace = Pace(lambda: next(clock))
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


def test_the_time_is_told_in_minutes() -> None:
    assert [said(seconds) for seconds in (10, 61, 290)] == [
        "less than a minute left",
        "about 1 min left",
        "about 5 min left",
    ]

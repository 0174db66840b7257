"""The budget of calls against Slack's limits, in a time that a test makes up: nothing waits."""

from __future__ import annotations

import random

import pytest

from doppel.slack.budget import Budget
from tests.fakes.slack import Limits

METHOD = "conversations.replies"


class MadeUpClock:
    """A time that passes by being waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def stop(self) -> None:
        raise AssertionError("nothing stops it")


def make_calls(wanted: int, quota: int, slowest: float, seed: int) -> tuple[float, int]:
    """Seconds that so many calls take, one after another and each up to `slowest` long; and how many were refused."""
    clock, chance, refused = MadeUpClock(), random.Random(seed), 0
    budget, limits = Budget(clock, random.Random(seed)), Limits(quotas={METHOD: quota}, clock=clock.monotonic)
    while wanted:
        budget.acquire(METHOD)
        clock.sleep(chance.uniform(0.001, slowest / 2))
        wait = limits.wait(METHOD, "a token")
        clock.sleep(chance.uniform(0.001, slowest / 2))
        if wait:
            refused += 1
            budget.refuse(METHOD, float(limits.retry_after(wait)))
        else:
            wanted -= 1
    return clock.now - 1000.0, refused


@pytest.mark.parametrize("slowest", [0.01, 0.2, 0.6])
@pytest.mark.parametrize("quota", [1, 20, 50])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_pace_and_keeps_to_it(quota: int, slowest: float, seed: int) -> None:
    """Forty minutes of calls: nearly as many as the limits allow, and few of them refused."""
    minutes = 40
    took, refused = make_calls(minutes * quota, quota, slowest, seed)
    least = (minutes * quota - 1) // quota * 60
    assert least <= took < 1.05 * least
    assert refused < minutes / 2

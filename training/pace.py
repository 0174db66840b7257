"""The time of a training: what it may take, and what it still will, from the steps that were measured."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

RECENT = 20
"""Steps that the pace is taken from: enough for short and long batches, few enough to follow what else runs."""
FEWEST = 5
"""Steps before anything is told."""
OUTLIER = 3.0
"""A step that took as many medians held something else too, such as an evaluation."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds that the steps of a training may take with what is done between them, and that what comes after takes."""

    steps: float = math.inf
    after: float = 0.0


NO_LIMITS = TimeLimits()


class Pace:
    """Steps as they end; the time of evaluations between them is spread over all steps."""

    def __init__(self, limits: TimeLimits = NO_LIMITS, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._began: float | None = None
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._extra, self._steps = 0.0, 0

    def begin(self, spent: float = 0.0) -> None:
        """The steps begin now; those before took so many seconds."""
        self._began = self._clock() - spent

    @property
    def spent(self) -> float:
        """Seconds since the steps began."""
        return 0.0 if self._began is None else self._clock() - self._began

    @property
    def is_over(self) -> bool:
        """Whether the steps took all the time that they may."""
        return self.spent >= self.limits.steps

    def share(self, step: float, steps: int) -> float:
        """How far the training is, from 0 to 1: by its steps or by its time, whichever is further."""
        return min(1.0, max(step / steps, self.spent / self.limits.steps))

    def step(self) -> None:
        """A step ended now; the first only starts the clock, as it also waits for what is set up once."""
        now, before = self._clock(), self._last
        self._last = now
        if before is None:
            return
        took, usual = now - before, median(self._recent) if len(self._recent) >= FEWEST else None
        self._steps += 1
        if usual is not None and took > OUTLIER * usual:
            self._extra += took - usual
        self._recent.append(took)

    def seconds_left(self, steps: int) -> float | None:
        """Of at most so many more steps, and of what comes after them; None while too few were measured."""
        if len(self._recent) < FEWEST:
            return None
        usual = median(self._recent)
        ordinary = [took for took in self._recent if took <= OUTLIER * usual]
        needed = steps * (fmean(ordinary) + self._extra / self._steps)
        return max(0.0, min(needed, self.limits.steps - self.spent)) + self.limits.after


def said(seconds: float | None) -> str:
    """The time that is left, as it is told."""
    if seconds is None:
        return "measuring how long it takes"
    return "less than a minute left" if seconds < 60 else f"about {seconds / 60:.0f} min left"

"""How long a training has still to go, from the steps that were measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import fmean, median

RECENT = 20
"""Steps that the pace is taken from: enough for short and long batches, few enough to follow what else runs."""
FEWEST = 5
"""Steps before anything is told."""
OUTLIER = 3.0
"""A step that took as many medians held something else too, such as an evaluation."""


class Pace:
    """Steps as they end; the time of evaluations between them is spread over all steps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._extra, self._steps = 0.0, 0

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
        """Of so many more steps; None while too few were measured."""
        if len(self._recent) < FEWEST:
            return None
        usual = median(self._recent)
        ordinary = [took for took in self._recent if took <= OUTLIER * usual]
        return steps * (fmean(ordinary) + self._extra / self._steps)


def said(seconds: float | None) -> str:
    """The time that is left, as it is told."""
    if seconds is None:
        return "measuring how long it takes"
    return "less than a minute left" if seconds < 60 else f"about {seconds / 60:.0f} min left"

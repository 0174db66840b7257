"""What a running server asks for by itself, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from doppel.jobs.queue import Job, Jobs, Request


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A request that is due `every` so many seconds; `is_wanted` says whether there is anything to do."""

    request: Request
    every: float
    is_wanted: Callable[[], bool] = lambda: True


class Schedule:
    """Asks for jobs as they become due. It counts from the newest job of the kind, whoever asked for that."""

    def __init__(self, entries: Sequence[Scheduled], now: Callable[[], float] = time.time) -> None:
        self.entries, self._now = entries, now
        self._looked: dict[int, float] = {}

    def tick(self, jobs: Jobs) -> list[Job]:
        """Ask for what is due; returns the new jobs. Costs nothing between two times that something is due."""
        return [job for number in range(len(self.entries)) for job in self._ask(number, jobs)]

    def _ask(self, number: int, jobs: Jobs) -> list[Job]:
        entry, now = self.entries[number], self._now()
        if now < self._looked.get(number, float("-inf")) + entry.every:
            return []
        last = jobs.last_asked(entry.request.kind)
        if last is not None and now < last + entry.every:
            self._looked[number] = last
            return []
        self._looked[number] = now
        if not entry.is_wanted():
            return []
        job, is_new = jobs.ask(entry.request)
        return [job] if is_new else []

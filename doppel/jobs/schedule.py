"""What a running server asks for by itself, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from doppel.jobs.queue import Job, Jobs, Request

LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A request that is due `every` so many seconds; `is_wanted` says whether there is anything to do."""

    request: Request
    every: float
    is_wanted: Callable[[], bool] = lambda: True


Entries = Callable[[], Sequence[Scheduled]]
"""What is to be asked for as things stand; called every LOOK_SECONDS."""


class Schedule:
    """Asks for jobs as they become due.

    It counts from the newest job of the kind for the same workspace, whoever asked for that.
    """

    def __init__(self, entries: Entries, now: Callable[[], float] = time.time) -> None:
        self._entries, self._now = entries, now
        self._found: Sequence[Scheduled] = ()
        self._found_at = float("-inf")
        self._looked: dict[str, float] = {}

    def tick(self, jobs: Jobs) -> list[Job]:
        """Ask for what is due; returns the new jobs. Costs nothing between two times that something is due."""
        if self._now() >= self._found_at + LOOK_SECONDS:
            self._found, self._found_at = self._entries(), self._now()
        return [job for entry in self._found for job in self._ask(entry, jobs)]

    def _ask(self, entry: Scheduled, jobs: Jobs) -> list[Job]:
        key, now = entry.request.key, self._now()
        if now < self._looked.get(key, float("-inf")) + entry.every:
            return []
        last = jobs.last_asked(entry.request)
        if last is not None and now < last + entry.every:
            self._looked[key] = last
            return []
        self._looked[key] = now
        if not entry.is_wanted():
            return []
        job, is_new = jobs.ask(entry.request)
        return [job] if is_new else []

"""A few places that many askers share: who waits is taken by turns, not by who came first."""

from __future__ import annotations

import asyncio
import itertools
from bisect import insort
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter

from doppel.errors import DoppelError

Asker = tuple[str, str]
"""The workspace, and who asks in it: a person's id, or a session where nobody signs in."""


class CrowdedError(DoppelError):
    """An asker has as many questions waiting as one may have."""


class FairQueue:
    """Gives `at_once` places, each to whoever has the fewest: first by workspace, then by asker within it.

    Among equals it is who was served longest ago. One asker holds half of the places at most, so that another finds one
    free, and has at most `waiting` questions waiting. For one event loop.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most_waiting = at_once, waiting
        self._share = at_once - at_once // 2
        self._waiting: dict[Asker, list[tuple[int, asyncio.Future[None]]]] = {}
        self._running: Counter[Asker] = Counter()
        self._of_team: Counter[str] = Counter()
        self._served: dict[Asker, int] = {}
        self._team_served: dict[str, int] = {}
        self._turns = itertools.count(1)

    @asynccontextmanager
    async def place(self, asker: Asker, owed: bool = False, asked_at: int = 0) -> AsyncIterator[None]:
        """Wait for a place, and hold it while this is open; of one asker's the earliest by `asked_at` comes first.

        Raises CrowdedError where `asker` has too many waiting, unless the answer is `owed`, as one accepted before is.
        """
        turn = self._join(asker, owed, asked_at)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(asker)
            else:
                self._leave(asker, turn)
            raise
        try:
            yield
        finally:
            self._release(asker)

    def _join(self, asker: Asker, owed: bool, asked_at: int) -> asyncio.Future[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._waiting.setdefault(asker, [])
        insort(line, (asked_at, turn), key=itemgetter(0))
        self._fill()
        if not turn.done() and not owed and len(line) > self._most_waiting:
            self._leave(asker, turn)
            raise CrowdedError(
                f"{self._most_waiting} of your questions are waiting already; ask again when some are answered."
            )
        return turn

    def _leave(self, asker: Asker, turn: asyncio.Future[None]) -> None:
        self._waiting[asker] = [(at, other) for at, other in self._waiting.get(asker, []) if other is not turn]
        self._forget_idle(asker)

    def _release(self, asker: Asker) -> None:
        self._running[asker] -= 1
        self._of_team[asker[0]] -= 1
        self._forget_idle(asker)
        self._fill()

    def _fill(self) -> None:
        """Give free places away."""
        while self._running.total() < self._at_once:
            ready = [asker for asker in self._waiting if self._running[asker] < self._share]
            if not ready:
                return
            self._begin(min(ready, key=self._rank))

    def _begin(self, asker: Asker) -> None:
        _, turn = self._waiting[asker].pop(0)
        # One that was cancelled in this moment takes no place.
        if not turn.cancelled():
            self._running[asker] += 1
            self._of_team[asker[0]] += 1
            self._served[asker] = self._team_served[asker[0]] = next(self._turns)
            turn.set_result(None)
        self._forget_idle(asker)

    def _rank(self, asker: Asker) -> tuple[int, int, int, int]:
        """The lowest is next."""
        team = asker[0]
        of_team = (self._of_team[team], self._team_served.get(team, 0))
        return *of_team, self._running[asker], self._served.get(asker, 0)

    def _forget_idle(self, asker: Asker) -> None:
        """Keep nothing of those who neither wait nor are answered."""
        if not self._waiting.get(asker):
            self._waiting.pop(asker, None)
            if not self._running[asker]:
                del self._running[asker]
                self._served.pop(asker, None)

"""Slack's events on their way into the archive: in order, in batches, with a watch on gaps.

While events come without a gap, a sync has nothing to read; after one, a sync is asked for. Slack's documentation
promises each event at least once to an app that listens, and nothing to one that doesn't. What an event forbids isn't
used for answers from when it came, however long it waits to be written: see `archive.waiting`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from doppel.errors import DoppelError
from doppel.ingest.event_store import EventStore
from doppel.logs import about, log_failure
from doppel.records import Raw
from doppel.slack.events import Change, changes_of
from doppel.slack.messages import timestamp

BEAT_SECONDS = 5.0
RETRY_SECONDS = 5.0
MINUTE = 60_000_000
"""For how long Slack withholds events at a time, in microseconds."""
CATCH_UP_SECONDS = 0.5
"""How long a question waits for the events before it, and its own, to be in the archive."""
BATCH = 200
"""Events that are written together when they come faster than they can be written one by one."""

log = logging.getLogger("doppel.events")


WaitUntilIdle = Callable[[], Awaitable[None]]
"""Waits until there is nothing more urgent to write."""


class AskSync(Protocol):
    """Asks for a sync; False where one runs already, which may have passed what is missing."""

    def __call__(self) -> bool: ...


class EventIngester:
    """Takes events from a running event loop; the archive is written in a thread."""

    def __init__(
        self,
        store: EventStore,
        bot_user: str,
        ask_sync: AskSync,
        wait_until_idle: WaitUntilIdle,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._bot_user, self._ask_sync, self._wait_until_idle, self._now = (
            store,
            bot_user,
            ask_sync,
            wait_until_idle,
            now,
        )
        self._queue: asyncio.Queue[tuple[Change, int]] = asyncio.Queue()
        self._pending = 0
        self._since: int | None = None
        self._told: int | None = None
        self._wants_sync = False
        self._hurry = asyncio.Event()

    def put(self, event: Raw) -> None:
        """Take an event; returns at once."""
        # What claims to be of the future would outlast whatever comes after it.
        at = min(_micros(event.get("event_ts")) or self._micros_now(), self._micros_now() + MINUTE)
        changes = changes_of(event, self._bot_user)
        self._store.hear([(change, at) for change in changes])
        for change in changes:
            self._queue.put_nowait((change, at))
            self._pending += 1

    def begin(self, after: int = 0) -> None:
        """From now on events come, or from a moment soon `after` it; what came before may be missing."""
        now = self._micros_now()
        self._since, self._wants_sync = max(now, self._since or 0, min(after, now + MINUTE)), True
        self._hurry.set()

    def doubt(self) -> None:
        """What came before may be missing, if anything did: the next sync reads it, and none is asked for."""
        if self._since is not None:
            self._since = max(self._since, self._micros_now())
            self._hurry.set()

    def end(self) -> None:
        """Events don't come any more."""
        if self._since is not None:
            self._since = None
            self._hurry.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open, events are written; at the end those that came are, too."""
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._beat())]
        try:
            yield
        finally:
            self.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._queue.join()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(DoppelError):
                await asyncio.to_thread(self._store.stop_listening)

    async def caught_up(self, seconds: float = CATCH_UP_SECONDS) -> None:
        """Wait until what came so far is in the archive, though not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._queue.join()

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            await self._wait_until_idle()
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._take(batch)
            self._pending -= len(batch)
            for _ in batch:
                self._queue.task_done()

    async def _take(self, batch: list[tuple[Change, int]]) -> None:
        """Write a batch, again and again while the archive can't be written; one that can't ever be is a gap."""
        with about(team=self._store.team):
            await self._take_in(batch)

    async def _take_in(self, batch: list[tuple[Change, int]]) -> None:
        while True:
            try:
                unread = await asyncio.to_thread(self._store.take, batch)
                # Only now is it looked whether one is wanted already: meanwhile a gap may have come.
                self._wants_sync |= unread
                self._store.written(batch)
                return
            except DoppelError as error:
                log.warning("Events wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                # What the changes forbid stays so: they aren't written.
                log_failure(log, f"{len(batch)} changes could not be taken in", error)
                self.begin()
                return

    async def _beat(self) -> None:
        while True:
            self._hurry.clear()
            with contextlib.suppress(DoppelError):
                await self._tell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._hurry.wait()

    async def _tell(self) -> None:
        since, until = self._since, self._micros_now()
        if since is None or since != self._told:
            # What was told before the gap must not be believed, however long events wait to be written.
            await asyncio.to_thread(self._store.stop_listening)
        if since is not None and since > until:
            return
        if since is not None and self._pending == 0:
            await asyncio.to_thread(self._store.listen, since, until)
            self._told = since
        if self._wants_sync:
            # A gap that comes while it is asked for wants another one.
            self._wants_sync = False
            is_asked = False
            try:
                is_asked = await asyncio.to_thread(self._ask_sync)
            finally:
                self._wants_sync |= not is_asked

    def _micros_now(self) -> int:
        return round(self._now() * 1_000_000)


def _micros(ts: object) -> int | None:
    text = timestamp(ts)
    return round(float(text) * 1_000_000) if text else None

"""Questions on their way in: kept before Slack is told that they came, each of them once, however often it is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from doppel.archive.bot import BotStore
from doppel.records import Raw
from doppel.timestamps import now_micros

IDLE_SECONDS = 0.03
IDLE_LIMIT_SECONDS = 0.5


class Inbox:
    """Keeps what comes at the same time in one transaction, so that a burst waits for few.

    Slack waits for no more than that: everything else is to wait for `wait_until_idle` first.
    """

    def __init__(self, store: BotStore) -> None:
        self._store = store
        self._queue: asyncio.Queue[tuple[str, Raw, asyncio.Future[bool]]] = asyncio.Queue()
        # Slack waits for this alone: the threads that all share may be waiting for answers' sake.
        self._thread = ThreadPoolExecutor(1, "inbox")
        self._last = float("-inf")

    async def accept(self, event_id: str, event: Raw) -> bool:
        """Keep a question; whether it is a new one. Raises what the archive raises."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[bool] = loop.create_future()
        self._queue.put_nowait((event_id, event, kept))
        self._last = loop.time()
        return await kept

    async def wait_until_idle(self) -> None:
        """Wait until no question has come for a moment, though not for long."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + IDLE_LIMIT_SECONDS
        while (now := loop.time()) < min(self._last + IDLE_SECONDS, limit):
            await asyncio.sleep(self._last + IDLE_SECONDS - now)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open, questions are kept."""
        task = asyncio.create_task(self._work())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._keep(batch)

    async def _keep(self, batch: list[tuple[str, Raw, asyncio.Future[bool]]]) -> None:
        events = [(event_id, event) for event_id, event, _ in batch]
        try:
            now, loop = now_micros(), asyncio.get_running_loop()
            new = await loop.run_in_executor(self._thread, self._store.accept, events, now)
        except Exception as error:
            for *_, kept in batch:
                if not kept.done():
                    kept.set_exception(error)
            return
        for event_id, _, kept in batch:
            if not kept.done():
                kept.set_result(event_id in new)
            new.discard(event_id)

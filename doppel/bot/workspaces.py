"""The workspaces that are answered in, each with parts of its own: they come and go with the app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from doppel.bot.receiving import Receiver
from doppel.errors import DoppelError
from doppel.ingest.event_ingester import EventIngester
from doppel.logs import log_failure

LOOK_SECONDS = 3.0

log = logging.getLogger("doppel.bot")


@dataclass(frozen=True, slots=True)
class Connected:
    """A workspace in which the app is installed; `since` tells one installation from the next, in microseconds."""

    team: str
    bot_user: str
    since: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What answers in one workspace, and what takes its events into the archive."""

    receiver: Receiver
    ingester: EventIngester


Open = Callable[[Connected], AbstractAsyncContextManager[Parts]]
Remove = Callable[[str], None]
"""Wipes the tokens of a workspace; blocks."""


class Workspaces:
    """Keeps those at work that `look` returns, which blocks; a change is taken up within LOOK_SECONDS."""

    def __init__(self, look: Callable[[], Iterable[Connected]], open_: Open, remove: Remove) -> None:
        self._look, self._open, self._remove = look, open_, remove
        self._tasks: dict[Connected, asyncio.Task[None]] = {}
        self._parts: dict[str, Parts] = {}
        self._is_heard = False
        self._hurry = asyncio.Event()

    def of(self, team: str) -> Receiver | None:
        """Who takes what comes from a workspace, None where the app isn't installed."""
        parts = self._parts.get(team)
        return parts.receiver if parts else None

    def knows(self, team: str) -> bool:
        """Whether the app is installed in a workspace, be it at work there or not yet."""
        return any(found.team == team for found in self._tasks)

    def wake(self) -> None:
        """Look at once."""
        self._hurry.set()

    def begin(self) -> None:
        """From now on events come, from every workspace."""
        self._is_heard = True
        for parts in self._parts.values():
            parts.ingester.begin()

    def doubt(self) -> None:
        """Something that Slack sent may have been lost, of whichever workspace."""
        for parts in self._parts.values():
            parts.ingester.doubt()

    def end(self) -> None:
        """Events don't come any more."""
        self._is_heard = False
        for parts in self._parts.values():
            parts.ingester.end()

    async def removed(self, team: str, at: int | None = None) -> None:
        """The app was removed from a workspace: nothing is done there any more, and its tokens are gone.

        What says so of a time `at` before it was installed again, in microseconds, is old news.
        """
        if at is not None and any(found.team == team and at < found.since for found in self._tasks):
            return
        await asyncio.to_thread(self._remove, team)
        await asyncio.gather(*(self._close(found) for found in list(self._tasks) if found.team == team))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is open, workspaces are at work; those that are there now are so at once."""
        await self._take_up()
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await asyncio.gather(*(self._close(found) for found in list(self._tasks)))

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hurry.wait()
            self._hurry.clear()
            with contextlib.suppress(DoppelError):
                await self._take_up()

    async def _take_up(self) -> None:
        wanted = set(await asyncio.to_thread(self._look))
        failed = {found for found, task in self._tasks.items() if task.done()}
        await asyncio.gather(*(self._close(found) for found in failed | (set(self._tasks) - wanted)))
        ready = []
        for found in wanted - set(self._tasks):
            is_open = asyncio.Event()
            self._tasks[found] = asyncio.create_task(self._work(found, is_open))
            ready.append(is_open.wait())
        await asyncio.gather(*ready)

    async def _work(self, found: Connected, is_open: asyncio.Event) -> None:
        """Be at work in a workspace until cancelled."""
        try:
            async with self._open(found) as parts:
                self._parts[found.team] = parts
                if self._is_heard:
                    parts.ingester.begin()
                is_open.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    del self._parts[found.team]
        except Exception as error:
            # Without its text, which may quote a message. It is tried again at the next look.
            log_failure(log, "A workspace could not be served", error)
        finally:
            is_open.set()

    async def _close(self, found: Connected) -> None:
        task = self._tasks.pop(found, None)
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

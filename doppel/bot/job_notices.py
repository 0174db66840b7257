"""What the bot asks of the queue of jobs, and the notices when one has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from typing import Protocol

from slack_sdk.web.async_client import AsyncWebClient

from doppel.archive.bot import BotStore, Notice
from doppel.bot.sentences import without_commands
from doppel.errors import DoppelError
from doppel.records import User
from doppel.slack.outgoing import plain

LOOK_SECONDS = 2.0

log = logging.getLogger("doppel.bot")


class Jobs(Protocol):
    """The queue of jobs. Methods block, and raise JobError."""

    def ask(self, kind: str) -> tuple[str, bool]:
        """Queue a sync or a reindex, or find the one that is queued or runs already.

        Returns its id, and whether it is a new one.
        """
        ...

    def train(self, person: User) -> str:
        """Queue the training of somebody, or find it; returns the job's id."""
        ...

    def clean(self, revision: int) -> str | None:
        """Queue the job that takes out of the index what was forgotten up to that revision of the archive.

        Returns its id, None where there is no index.
        """
        ...

    def ended(self, job_ids: Collection[str]) -> dict[str, str]:
        """What those of the jobs came to that are neither queued nor run, as sentences for people."""
        ...

    def lines(self) -> list[str]:
        """The jobs that are queued or run, one line each."""
        ...

    def cancel(self, beginning: str) -> str:
        """Cancel the job whose id begins so; returns a sentence."""
        ...


class Notices:
    """Tells whoever asked for a job when it has ended, also after a restart."""

    def __init__(self, jobs: Jobs, store: BotStore, client: AsyncWebClient) -> None:
        self._jobs, self._store, self._client = jobs, store, client

    async def add(self, job_id: str, channel: str, user: str) -> None:
        """Tell `user` in `channel` what becomes of a job."""
        await asyncio.to_thread(self._store.add_notice, Notice(job_id, channel, user))

    async def keep_telling(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except DoppelError as error:
                log.warning("Notices wait: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        notices = await asyncio.to_thread(self._store.notices)
        if not notices:
            return
        outcomes = await asyncio.to_thread(self._jobs.ended, {notice.job_id for notice in notices})
        for notice in notices:
            if notice.job_id in outcomes:
                await self._tell(notice, outcomes[notice.job_id])

    async def _tell(self, notice: Notice, outcome: str) -> None:
        text = f"<@{notice.user_id}> {plain(without_commands(outcome))}"
        for channel in (notice.channel, notice.user_id):
            with contextlib.suppress(Exception):
                await self._client.chat_postMessage(channel=channel, text=text)
                break
        await asyncio.to_thread(self._store.drop_notice, notice)


class Trainings:
    """Begins trainings, and tells whoever wanted one what becomes of it."""

    def __init__(self, jobs: Jobs, notices: Notices) -> None:
        self._jobs, self._notices = jobs, notices

    async def begin(self, person: User, channel: str, asked_by: str) -> str:
        """Queue the training of somebody, and tell `asked_by` in `channel` when it has ended; returns the job's id."""
        job = await asyncio.to_thread(self._jobs.train, person)
        await self._notices.add(job, channel, asked_by)
        return job

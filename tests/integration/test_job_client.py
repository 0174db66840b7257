"""Whoever asked for a job is told when it has ended, and the queue is opened only where somebody waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from doppel.app_context import AppContext
from doppel.archive.bot import BotStore
from doppel.bot.bolt_app import bot_client
from doppel.bot.job_notices import Notices
from doppel.config import load_settings
from doppel.console import Console
from doppel.ingest import open_archive
from doppel.services.job_client import JobClient
from tests.end_to_end import environment
from tests.fakes.slack import TEAM, FakeSlack, Workspace


class CountingClient(JobClient):
    """Remembers how often it was asked what has ended."""

    looks = 0

    def ended(self, job_ids: Collection[str]) -> dict[str, str]:
        self.looks += 1
        return super().ended(job_ids)


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    made.channel("general", made.user("ada", id="U1"), made.user("grace", id="U2"), id="C1")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BotStore]:
    with open_archive(tmp_path / "archive.db") as archive:
        yield archive.bot(TEAM)


@pytest.fixture
def jobs(tmp_path: Path) -> CountingClient:
    return CountingClient(AppContext(load_settings(environment(tmp_path)), Console(as_json=False)), TEAM, is_own=True)


async def look(notices: Notices, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(notices.keep_telling(), seconds)


async def test_all_are_told_in_one_look_and_nobody_looks_for_nothing(
    slack: FakeSlack, store: BotStore, jobs: CountingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices = Notices(jobs, store, bot_client(slack.bot_token, slack.api_url))
    monkeypatch.setattr("doppel.bot.job_notices.LOOK_SECONDS", 0.01)
    await look(notices, 0.3)
    assert jobs.looks == 0

    (ended, _), (queued, _) = jobs.ask("reindex"), jobs.ask("sync")
    jobs.cancel(ended)
    for job, user in ((ended, "U1"), (queued, "U1"), ("long-gone", "U2")):
        await notices.add(job, "C1", user)
    monkeypatch.setattr("doppel.bot.job_notices.LOOK_SECONDS", 60)
    await look(notices, 3)
    assert jobs.looks == 1
    assert {raw["text"] for raw in slack.workspace.find("C1").log} == {
        f"<@U1> Job {ended} (reindex) is cancelled.",
        "<@U2> Job long-gone is not known any more.",
    }
    assert [notice.job_id for notice in store.notices()] == [queued]

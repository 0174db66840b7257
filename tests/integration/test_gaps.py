"""What ends "listening without a gap", so that the next sync reads again what events may not have told of."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import cast

import httpx
import pytest
from fastapi import FastAPI

from doppel.archive import Archive
from doppel.bot.bolt_app import EVENTS_PATH, Teams, build_bot, mount_events
from doppel.ingest import EventStore
from doppel.ingest import event_ingester as feeds
from doppel.ingest.event_ingester import EventIngester
from doppel.records import Raw
from doppel.web.body_limit import BODY_BYTES, LimitedBody
from tests.listening import heard_since

TEAM, BOT = "T1", "U0FAKEBOT1"
MESSAGE = {"type": "message", "channel": "C1", "channel_type": "channel", "ts": "1700000000.000100", "user": "U1"}


class Town:
    """A feed with a clock that is set by hand, and what it asked for. While it isn't `idle`, nothing is written."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.now, self.syncs, self.idle = archive, time.time(), 0, asyncio.Event()
        self.idle.set()
        self.ingester = EventIngester(EventStore(archive, TEAM), BOT, self._ask, self._wait, lambda: self.now)

    def since(self) -> float | None:
        """Since when nothing was missed, in seconds."""
        found = heard_since(self.archive, TEAM)
        return None if found is None else found / 1_000_000

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.005)

    def _ask(self) -> bool:
        self.syncs += 1
        return True

    async def _wait(self) -> None:
        await self.idle.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "BEAT_SECONDS", 0.01)


async def test_after_a_gap_nothing_is_believed_while_events_wait_to_be_written(archive: Archive) -> None:
    town = Town(archive)
    async with town.ingester.running():
        town.ingester.begin()
        await town.until(lambda: town.since() is not None)
        town.idle.clear()
        town.ingester.put(MESSAGE)
        town.now += 5
        town.ingester.begin()
        await town.until(lambda: town.since() is None)
        town.idle.set()
        await town.until(lambda: town.since() == pytest.approx(town.now))


async def test_while_slack_withholds_events_no_sync_is_asked_for_and_nothing_believed(archive: Archive) -> None:
    town = Town(archive)
    async with town.ingester.running():
        town.ingester.begin()
        await town.until(lambda: town.syncs == 1)
        end = town.now + 40
        town.ingester.begin(round(end * 1_000_000))
        await town.until(lambda: town.since() is None)
        await asyncio.sleep(0.05)
        assert (town.syncs, town.since()) == (1, None)
        town.now = end + 1
        await town.until(lambda: town.syncs == 2)
        assert town.since() == pytest.approx(end)


async def test_a_doubt_ends_it_and_asks_for_no_sync(archive: Archive) -> None:
    town = Town(archive)
    async with town.ingester.running():
        town.ingester.doubt()
        town.ingester.begin()
        await town.until(lambda: town.since() is not None and town.syncs == 1)
        town.now += 5
        town.ingester.doubt()
        await town.until(lambda: town.since() == pytest.approx(town.now))
        assert town.syncs == 1


class OneTeam:
    """A workspace at work that fails at what it takes."""

    def knows(self, team: str) -> bool:
        return True

    def of(self, team: str) -> OneTeam:
        return self

    async def take(self, event_id: str, event: Raw) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize(
    ("size", "path", "headers", "doubts"),
    [
        (BODY_BYTES + 1, EVENTS_PATH, {"x-slack-signature": "v0=1"}, 1),
        (BODY_BYTES + 1, EVENTS_PATH, {}, 0),
        (BODY_BYTES + 1, "/elsewhere", {"x-slack-signature": "v0=1"}, 0),
        (10, EVENTS_PATH, {"x-slack-signature": "v0=1"}, 0),
    ],
)
async def test_an_event_that_is_too_large_to_be_taken(
    size: int, path: str, headers: dict[str, str], doubts: int
) -> None:
    told: list[None] = []
    page = FastAPI()
    page.add_middleware(LimitedBody)
    bot = build_bot("https://slack.example/api/", "secret", cast(Teams, OneTeam()))
    mount_events(page, bot, lambda: told.append(None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://doppel") as client:
        answer = await client.post(path, content=b"x" * size, headers=headers)
    assert (answer.status_code == 413, len(told)) == (size > BODY_BYTES, doubts)


async def test_an_event_that_could_not_be_taken(caplog: pytest.LogCaptureFixture) -> None:
    told: list[None] = []
    page = FastAPI()
    # As with Socket Mode, where Slack signs nothing.
    mount_events(page, build_bot("https://slack.example/api/", "", cast(Teams, OneTeam())), lambda: told.append(None))
    body = {"type": "event_callback", "team_id": TEAM, "event_id": "E1", "event": MESSAGE}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://doppel") as client:
        answer = await client.post(EVENTS_PATH, json=body)
    assert (answer.status_code, len(told)) == (500, 1)
    assert "disk full" not in answer.text + caplog.text


async def test_a_gap_while_slack_withholds_events_lasts_as_long_as_they_are_withheld(archive: Archive) -> None:
    town = Town(archive)
    async with town.ingester.running():
        town.ingester.begin(round((town.now + 50) * 1_000_000))
        town.ingester.begin()
        town.now += 40
        await asyncio.sleep(0.1)
        assert town.since() is None
        town.now += 20
        await town.until(lambda: town.since() is not None)
        assert town.since() == pytest.approx(town.now - 10)


async def test_a_gap_that_comes_while_events_are_written_wants_a_sync(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    town, writing, goes_on = Town(archive), threading.Event(), threading.Event()

    def slow(batch: object) -> bool:
        writing.set()
        return not goes_on.wait(5)

    monkeypatch.setattr(town.ingester._store, "take", slow)
    monkeypatch.setattr(feeds, "BEAT_SECONDS", 0.5)
    async with town.ingester.running():
        await town.until(lambda: town.since() is None)
        town.ingester.put(MESSAGE)
        await town.until(writing.is_set)
        town.ingester.begin()
        goes_on.set()
        await town.until(lambda: town.syncs == 1)


async def test_a_gap_that_comes_while_a_sync_is_asked_for_wants_another(archive: Archive) -> None:

    class Asked(Town):
        def _ask(self) -> bool:
            if self.syncs == 0:
                loop.call_soon_threadsafe(self.ingester.begin)
                time.sleep(0.1)
            return super()._ask()

    loop, town = asyncio.get_running_loop(), Asked(archive)
    async with town.ingester.running():
        town.ingester.begin()
        await town.until(lambda: town.syncs == 2)


def test_an_event_that_claims_to_be_of_the_future_does_not_outlast_the_next(archive: Archive) -> None:
    town, heard = Town(archive), list[int]()
    town.ingester._store.hear = lambda changes: heard.extend(at for _, at in changes)  # type: ignore[method-assign]
    town.ingester.put({**MESSAGE, "event_ts": "99999999999.000100"})
    assert heard[0] <= (town.now + 61) * 1_000_000

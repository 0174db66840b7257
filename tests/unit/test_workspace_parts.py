"""Workspaces come and go while Doppel runs; one that can't be served yet is tried again, and Slack told to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from doppel.bot import workspaces
from doppel.bot.workspaces import Connected, Parts, Workspaces
from doppel.errors import StorageError


class Feed:
    """Remembers whether events are heard."""

    heard = False

    def begin(self) -> None:
        self.heard = True

    def end(self) -> None:
        self.heard = False


class Office:
    """Opens parts for workspaces; `broken` ones can't be."""

    def __init__(self) -> None:
        self.installed: list[Connected] = []
        self.broken: set[str] = set()
        self.open: dict[str, Feed] = {}
        self.removed: list[str] = []
        self.teams = Workspaces(lambda: list(self.installed), self.work, self.removed.append)

    @asynccontextmanager
    async def work(self, place: Connected) -> AsyncIterator[Parts]:
        if place.team in self.broken:
            raise StorageError("The disk is full.")
        nothing: Any = object()
        feed: Any = Feed()
        self.open[place.team] = feed
        try:
            yield Parts(nothing, feed)
        finally:
            del self.open[place.team]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "LOOK_SECONDS", 0.02)


async def until(office: Office, teams: set[str]) -> None:
    async with asyncio.timeout(5):
        while set(office.open) != teams:
            await asyncio.sleep(0.01)


async def test_they_come_and_go_and_hear_what_the_others_hear() -> None:
    office = Office()
    office.installed = [Connected("T1", "U1")]
    async with office.teams.running():
        assert set(office.open) == {"T1"}
        office.teams.begin()
        office.installed.append(Connected("T2", "U2"))
        await until(office, {"T1", "T2"})
        assert [feed.heard for feed in office.open.values()] == [True, True]
        office.teams.end()
        assert [feed.heard for feed in office.open.values()] == [False, False]
        office.installed.pop(0)
        await until(office, {"T2"})
        assert office.teams.of("T1") is None
        office.installed = [Connected("T2", "U2", since=9)]
        before = office.open["T2"]
        async with asyncio.timeout(5):
            while office.open.get("T2") in (None, before):
                await asyncio.sleep(0.01)
    assert office.open == {}


async def test_one_that_cannot_be_served_is_known_and_tried_again() -> None:
    office = Office()
    office.installed, office.broken = [Connected("T1", "U1"), Connected("T2", "U2")], {"T2"}
    async with office.teams.running():
        assert set(office.open) == {"T1"}
        assert (office.teams.knows("T2"), office.teams.of("T2")) == (True, None)
        assert not office.teams.knows("T3")
        office.broken = set()
        await until(office, {"T1", "T2"})


async def test_a_removed_one_ends_before_that_is_acknowledged() -> None:
    office = Office()
    office.installed = [Connected("T1", "U1"), Connected("T2", "U2")]
    async with office.teams.running():
        office.installed.pop(0)
        await office.teams.removed("T1")
        assert (office.removed, set(office.open)) == (["T1"], {"T2"})


async def test_that_it_was_removed_before_it_was_installed_again_is_old_news() -> None:
    office = Office()
    office.installed = [Connected("T1", "U1", since=5_000_000)]
    async with office.teams.running():
        await office.teams.removed("T1", 4_999_999)
        assert (office.removed, set(office.open)) == ([], {"T1"})
        office.installed.clear()
        await office.teams.removed("T1", 5_000_000)
        assert (office.removed, set(office.open)) == (["T1"], set())

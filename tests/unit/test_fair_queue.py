"""Places that many share: who comes next, however many one asker has waiting, and that no place is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from doppel.fair_queue import Asker, CrowdedError, FairQueue

ADA, BEN, EVE, ZOE = ("T1", "ada"), ("T1", "ben"), ("T1", "eve"), ("T2", "zoe")


class Room:
    """Askers who each hold their place until a test lets them go; `began` says who came in, in order."""

    def __init__(self, at_once: int, waiting: int = 1000) -> None:
        self.queue = FairQueue(at_once, waiting)
        self.began: list[Asker] = []
        self.inside: list[tuple[Asker, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, *askers: Asker, owed: bool = False) -> Sequence[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._ask(asker, owed)) for asker in askers]
        self.tasks += tasks
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks

    async def _ask(self, asker: Asker, owed: bool) -> None:
        async with self.queue.place(asker, owed):
            self.began.append(asker)
            gone = asyncio.Event()
            self.inside.append((asker, gone))
            try:
                await gone.wait()
            finally:
                self.inside.remove((asker, gone))

    async def let_go(self, number: int = 1) -> None:
        for _ in range(number):
            self.inside[0][1].set()
            for _ in range(4):
                await asyncio.sleep(0)


@asynccontextmanager
async def room(at_once: int, waiting: int = 1000) -> AsyncIterator[Room]:
    opened = Room(at_once, waiting)
    yield opened
    for task in opened.tasks:
        task.cancel()
    await asyncio.gather(*opened.tasks, return_exceptions=True)


async def test_one_who_floods_leaves_places_free_and_another_waits_for_nobody() -> None:
    async with room(8) as found:
        await found.ask(*[ADA] * 80)
        assert found.began == [ADA] * 4
        await found.ask(BEN)
        assert found.began[4:] == [BEN]


async def test_where_all_places_are_taken_whoever_has_the_fewest_comes_next() -> None:
    async with room(2) as found:
        await found.ask(*[ADA] * 10, *[BEN] * 10)
        await found.ask(EVE)
        await found.let_go()
        assert found.began == [ADA, BEN, EVE]


async def test_those_who_wait_are_taken_by_turns() -> None:
    async with room(1) as found:
        await found.ask(*[ADA] * 4, *[BEN] * 3, EVE)
        await found.let_go(7)
        assert found.began == [ADA, BEN, EVE, ADA, BEN, ADA, BEN, ADA]


async def test_workspaces_take_turns_however_many_ask_in_one() -> None:
    async with room(1) as found:
        await found.ask(ADA, BEN, EVE, ADA, ZOE, ZOE)
        await found.let_go(5)
        assert found.began == [ADA, ZOE, BEN, ZOE, EVE, ADA]


async def test_the_same_id_in_another_workspace_is_another_asker() -> None:
    async with room(4) as found:
        await found.ask(("T1", "U1"), ("T1", "U1"), ("T1", "U1"), ("T2", "U1"))
        assert found.began == [("T1", "U1"), ("T1", "U1"), ("T2", "U1")]


async def test_what_one_asks_is_taken_in_its_order() -> None:
    queue, order = FairQueue(2, 100), []

    async def ask(number: int) -> None:
        async with queue.place(ADA):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(20)))
    assert order == list(range(20))


async def test_what_one_asked_first_comes_first_even_where_it_came_late() -> None:
    queue, order = FairQueue(1, 100), []

    async def ask(asked_at: int) -> None:
        async with queue.place(ADA, asked_at=asked_at):
            order.append(asked_at)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(asked_at) for asked_at in (5, 3, 8, 1, 3, 9)))
    assert order == [5, 1, 3, 3, 8, 9]


async def test_beyond_the_bound_one_is_told_how_many_wait_and_others_are_not() -> None:
    async with room(2, waiting=3) as found:
        tasks = await found.ask(*[ADA] * 5)
        with pytest.raises(CrowdedError, match=r"^3 of your questions are waiting already; ask again when"):
            await tasks[-1]
        await found.ask(BEN, owed=True)
        await found.ask(ADA, owed=True)
        await found.let_go(5)
        assert Counter(found.began) == {ADA: 5, BEN: 1}


async def test_one_place_alone_is_shared_too() -> None:
    async with room(1, waiting=1) as found:
        await found.ask(ADA, ADA, BEN)
        await found.let_go(2)
        assert found.began == [ADA, BEN, ADA]


async def test_whoever_gives_up_leaves_no_place_taken() -> None:
    async with room(2) as found:
        first, second, third = await found.ask(ADA, ADA, BEN)
        second.cancel()
        await found.ask(BEN)
        first.cancel()
        third.cancel()
        await found.ask(EVE, ZOE, ADA)
        await found.let_go(2)
    assert Counter(found.began) == {ADA: 2, BEN: 2, EVE: 1, ZOE: 1}
    assert (found.queue._waiting, found.queue._running, found.queue._served) == ({}, Counter(), {})


async def test_whatever_is_cancelled_and_when_places_stay_as_many_and_nothing_is_kept() -> None:
    chance, queue, inside = random.Random(1), FairQueue(5, 1000), 0

    async def ask(asker: Asker) -> None:
        nonlocal inside
        async with queue.place(asker):
            inside += 1
            assert inside <= 5
            try:
                await asyncio.sleep(chance.random() / 500)
            finally:
                inside -= 1

    tasks = [asyncio.create_task(ask((f"T{n % 3}", f"U{n % 7}"))) for n in range(400)]
    for task in chance.sample(tasks, 150):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (inside, queue._waiting, queue._running, queue._served) == (0, {}, Counter(), {})
    async with asyncio.timeout(1), queue.place(ADA):
        pass

"""What one question costs beside embedding and model, in workspaces of any size: python -m benchmarks.question"""

from __future__ import annotations

import asyncio
import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Any

from sqlalchemy import event

from benchmarks.command import main
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.process import Companion, in_fresh_process, leave_terminal
from doppel.access import ConsentAction
from doppel.adapters import AdapterStore
from doppel.archive.archive import Archive
from doppel.archive.database import backend_of, open_engine
from doppel.archive.snapshots import Snapshot, Views
from doppel.artifacts import VersionedFolder
from doppel.bot.answering import Answering
from doppel.bot.question_parser import Question
from doppel.config import load_settings
from doppel.fair_queue import FairQueue
from doppel.inference.client import Piece
from doppel.ingest import EventStore, SyncStore, open_archive
from doppel.ingest.sync_store import Cursor
from doppel.records import Channel, ChannelKind, User
from doppel.services.ask import Engine
from doppel.slack.events import Change, Membership, PersonChanged, Said
from doppel.timestamps import now_micros
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.tokenizer import WordTokenizer

LIMIT_SECONDS = 1800.0
TEAM, ASKER, PERSONA = "T0BENCH", "U1", "U2"
SIZES = ((1_000, 150), (20_000, 600), (100_000, 2_000))
"""People and channels."""
MEMBERS = 300
"""Of a channel, but for one that everybody is in."""
MESSAGES, QUESTIONS, WARM = 5_000, 40, 3
EVENTS_A_SECOND = 20
NEWS = 20
"""One event of so many is a join or a leave, another a changed person; the rest are messages."""
WORDS = (
    "kafka",
    "queue",
    "table",
    "deploy",
    "lunch",
    "budget",
    "review",
    "outage",
    "index",
    "merge",
    "friday",
    "release",
)

DOES_NOT_SHOW = (
    "embedding, tokenizer, model and Slack: a stub stands for each, so that it is the rest that is measured.",
    "the first question after a start among the others: it reads the whole workspace once, and has its own figure.",
    "many questions at once, which share the cores; they are asked one after the other.",
    "Postgres: the archive is a SQLite file, and the events come from another process that writes to the same.",
    "a workspace in which most events are joins and changed people: here a tenth of them are.",
)


class KeepsNothing(Archive):
    """The peer: it reads people, channels and consent anew for each question, once."""

    def snapshot(self, team: str | None = None) -> Snapshot:
        self._views = Views()
        return super().snapshot(team)


class Echo:
    """A model that says a few words at once."""

    async def stream(self, *_: object, **__: object) -> AsyncIterator[Piece]:
        for number in range(1, 6):
            yield Piece("A table does the job. ", 5 * number)


class NoSlack:
    """Slack's API without Slack: whatever is called has worked."""

    def __init__(self) -> None:
        self._clock = 1_900_000_000

    def __getattr__(self, method: str) -> Any:
        async def call(**_: object) -> dict[str, Any]:
            self._clock += 1
            return {"ok": True, "ts": f"{self._clock}.000100", "channel": "C0", "message": {}}

        return call


def prepare(given: Namespace, work: Path) -> Benchmark:
    """An archive and an index of each size."""
    sizes = [SIZES[0]] if given.small else list(SIZES)
    for people, channels in sizes:
        in_fresh_process(LIMIT_SECONDS, build, work / str(people), people, channels)

    def contender(name: str, kind: type[Archive], asked: int) -> Contender:
        return Contender(name, partial(_measure, kind, work, sizes, asked))

    return Benchmark(
        name="question",
        title="A question beside its embedding and its model, while events arrive",
        contenders=(
            contender("doppel", Archive, QUESTIONS),
            contender("reads everybody", KeepsNothing, QUESTIONS // 4),
        ),
        workload={
            "people, channels": sizes,
            "members": f"{MEMBERS} in a channel, everybody in one, in which is asked",
            "messages": MESSAGES,
            "events a second": f"{EVENTS_A_SECOND}, {2 / NEWS:.0%} of them joins, leaves and changed people",
            "CPU": "of the process that answers, all its threads; the events are written by another",
            "process": "a fresh one for each measurement",
        },
        libraries=("SQLAlchemy", "faiss-cpu"),
        does_not_show=DOES_NOT_SHOW,
    )


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark alone."""
    parser.add_argument("--small", action="store_true", help="the smallest workspace alone")


def build(folder: Path, people: int, channels: int) -> None:
    """A workspace of that size, with an index."""
    chance, at = random.Random(people), now_micros()
    ids = [f"U{number}" for number in range(people)]
    listed = [
        Channel(TEAM, f"C{number}", f"channel-{number}", ChannelKind.PRIVATE if number % 3 == 2 else ChannelKind.PUBLIC)
        for number in range(channels)
    ]
    users = [User(TEAM, id_, f"person{id_}", is_guest=number % 50 == 49) for number, id_ in enumerate(ids)]
    folder.mkdir(parents=True)
    with open_archive(folder / "archive.db") as archive:
        store = SyncStore(archive)
        store.take_directory(TEAM, "https://bench.slack.com", users, listed, at)
        for channel in listed:
            there = ids if channel.id == "C0" else [ASKER, *chance.sample(ids, min(MEMBERS, people))]
            store.take_members(Cursor(channel.id, members_at=1), list(dict.fromkeys(there)), at)
        for number in range(0, MESSAGES, 100):
            news = [said(chance, channels, ids, at + 1_000_000 * (number + each)) for each in range(100)]
            EventStore(archive, TEAM).take([(change, at) for change in news])
        archive.record_consent(archive.get_user(TEAM, PERSONA), ConsentAction.GRANT, "benchmark")
        reindex(archive, VersionedFolder(folder / "index", "index", ""), FakeEmbedder())


def said(chance: random.Random, channels: int, ids: Sequence[str], at: int) -> Said:
    """A message of somebody somewhere."""
    text = " ".join(chance.choices(WORDS, k=12))
    raw = {"type": "message", "ts": f"{at // 1_000_000}.{at % 1_000_000:06d}", "user": chance.choice(ids), "text": text}
    return Said(f"C{chance.randrange(channels)}", raw, changed=False)


def write_events(pipe: Connection, folder: Path, people: int, channels: int) -> None:
    """Events, so many a second, until this process is ended."""
    leave_terminal()
    chance, ids = random.Random(7), [f"U{number}" for number in range(people)]
    with open_archive(folder / "archive.db") as archive:
        store, started, number = EventStore(archive, TEAM), time.monotonic(), 0
        pipe.send("at work")
        while True:
            number += 1
            time.sleep(max(0.0, started + number / EVENTS_A_SECOND - time.monotonic()))
            store.take([(_event(chance, channels, ids, number), now_micros())])


def _event(chance: random.Random, channels: int, ids: Sequence[str], number: int) -> Change:
    somebody = chance.choice(ids[3:])
    if number % NEWS == 0:
        return Membership(f"C{chance.randrange(channels)}", somebody, joined=chance.random() < 0.5)
    if number % NEWS == NEWS // 2:
        return PersonChanged({"id": somebody, "team_id": TEAM, "name": f"renamed{number}"})
    return said(chance, channels, ids, now_micros())


class _Events(Companion):
    def started(self, told: Any) -> None:
        """It has begun."""


def _measure(kind: type[Archive], work: Path, sizes: Sequence[tuple[int, int]], asked: int) -> Samples:
    samples: dict[str, Sequence[float]] = {}
    for people, channels in sizes:
        folder = work / str(people)
        with _Events("The events", 120, write_events, folder, people, channels, daemon=True):
            samples |= in_fresh_process(LIMIT_SECONDS, ask, kind, folder, people, channels, asked)
    return samples


def ask(kind: type[Archive], folder: Path, people: int, channels: int, asked: int) -> Samples:
    """Questions of one person in a channel that everybody is in, one after the other."""
    return asyncio.run(_ask(kind, folder, people, channels, asked))


async def _ask(kind: type[Archive], folder: Path, people: int, channels: int, asked: int) -> Samples:
    settings = load_settings({}, data_dir=folder)
    engines: Any = (WordTokenizer(), Echo(), NoSlack())
    tokenizer, model, slack = engines
    place = backend_of(folder / "archive.db")
    with kind(open_engine(place), place) as archive:
        index = VersionedFolder(folder / "index", "index", "")
        retriever = IndexRetriever(index, FakeEmbedder(), archive)
        engine = Engine(settings, archive, retriever, AdapterStore(folder), tokenizer, model).within(TEAM)
        answering = Answering(engine, archive, slack, TEAM, "UBOT", _at_once, FairQueue(1, asked))
        costs = [await _one(archive, answering, number) for number in range(WARM + asked)]
    if not all(whole for *_, whole in costs):
        raise MeasurementError("A question was not answered.")
    size = f"{people // 1000}k people"
    warm = costs[WARM:]
    cpu = [1000 * seconds for seconds, *_ in warm]
    return {
        f"CPU ms, {size}": cpu,
        f"CPU ms, p95, {size}": [quantiles(cpu, n=20, method="inclusive")[-1]],
        f"statements, {size}": [count for _, count, _ in warm],
        f"CPU ms, first, {size}": [1000 * costs[0][0]],
    }


async def _at_once() -> None:
    """There is nothing to wait for."""


async def _one(archive: Archive, answering: Answering, number: int) -> tuple[float, int, bool]:
    """CPU seconds and statements of one question, and whether it was answered."""
    store, now = archive.bot(TEAM), now_micros()
    ts = f"{now // 1_000_000}.{now % 1_000_000:06d}"
    text = f"why did we drop {WORDS[number % len(WORDS)]} for a table?"
    asked = Question("C0", ts, ts, ASKER, text, (PERSONA,), direct=False, addressed=True)
    await asyncio.sleep(1.5 / EVENTS_A_SECOND)
    with _counted(archive) as statements:
        began = time.process_time()
        await asyncio.to_thread(store.accept, [(f"E{ts}", {"ts": ts})], now)
        answering.begin(f"E{ts}", asked)
        await answering.idle()
        seconds = time.process_time() - began
    return seconds, len(statements), bool(store.answers("C0", ts))


@contextmanager
def _counted(archive: Archive) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            found.append(statement)

    event.listen(archive._engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(archive._engine, "before_cursor_execute", note)


if __name__ == "__main__":
    main("question", prepare, rounds=3, warmup=0, options=options)

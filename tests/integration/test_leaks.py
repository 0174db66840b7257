"""Random askers in random places, with private channels around: nobody is shown what they may not read.

`--askers N` says for how many it is decided, `--parrots N` how many are answered; the defaults are small.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from doppel.access import ConsentAction
from doppel.app_context import AppContext
from doppel.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.bot.writing import Audiences
from doppel.config import load_settings
from doppel.ingest import open_archive
from doppel.services.ask import NOT_FOUND, Engine
from doppel.serving.web import readers_of
from doppel.slack.draft_blocks import SEND
from doppel.web.chat_session import ChatSession
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from tests.answering import Parrot, indexed_engine
from tests.end_to_end import doppel as cli
from tests.end_to_end import environment
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.listening import Quiet, listening, replies
from tests.syncing import sync

PEOPLE, CHANNELS, MESSAGES = 30, 24, 400
BATCH = 20
WORDS = ["budget", "kafka", "deploy", "salary", "lunch", "offer", "incident", "roadmap", "layoff", "merger"]


@dataclass
class Town:
    """A workspace, and who is a guest in it."""

    workspace: Workspace = field(default_factory=Workspace)
    people: list[str] = field(default_factory=list)
    guests: set[str] = field(default_factory=set)
    channels: list[str] = field(default_factory=list)

    def sees(self, person: str, channel: str) -> bool:
        """Slack's own rule: full members see public channels, and everybody what they are in."""
        place = self.workspace.find(channel)
        return person in place.members or (place.kind == "public" and person not in self.guests)

    def readers(self, channel: str) -> list[str]:
        return [person for person in self.people if self.sees(person, channel)]


@pytest.fixture(scope="module")
def town() -> Town:
    chance, made = random.Random(11), Town()
    for number in range(PEOPLE):
        is_guest = chance.random() < 0.2
        user = made.workspace.user(f"p{number}", id=f"U{number}", is_restricted=is_guest)
        made.people.append(user)
        if is_guest:
            made.guests.add(user)
    for number in range(CHANNELS):
        members = chance.sample(made.people, chance.randint(1, 12))
        kind = chance.choice(["public", "private", "private"])
        made.channels.append(made.workspace.channel(f"c{number}", *members, id=f"C{number}", kind=kind))  # type: ignore[arg-type]
    for _ in range(MESSAGES):
        place = made.workspace.find(chance.choice(made.channels))
        author = chance.choice([member for member in place.members if member in made.people])
        made.workspace.post(place.id, author, " ".join(chance.choices(WORDS, k=6)) + f" said in {place.name}")
    return made


@pytest.fixture(scope="module")
def parts(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Archive, IndexRetriever]]:
    """The archive after a sync, and its index."""
    folder = tmp_path_factory.mktemp("leaks")
    with FakeSlack(town.workspace) as slack, open_archive(folder / "archive.db") as archive:
        sync(slack, archive)
        index = VersionedFolder(folder / "index", "index", "")
        reindex(archive, index, FakeEmbedder())
        yield archive, IndexRetriever(index, FakeEmbedder(), archive)


def test_nobody_is_shown_what_somebody_there_may_not_read(
    town: Town, parts: tuple[Archive, IndexRetriever], request: pytest.FixtureRequest
) -> None:
    archive, retriever = parts
    chance, found, private = random.Random(3), 0, 0
    snapshot = archive.snapshot(town.workspace.team)
    names = {channel.name: channel.id for channel in snapshot.channels}
    for _ in range(request.config.getoption("--askers")):
        direct = chance.random() < 0.3
        asker = chance.choice(town.people)
        where = "D1" if direct else chance.choice([c for c in town.channels if town.sees(asker, c)] or town.channels)
        readers = [asker] if direct else town.readers(where)
        audiences = Audiences.of(snapshot, town.workspace.team, where, asker, direct)
        readable = snapshot.readable(audiences.everybody)
        for passage in retriever.retrieve(words(chance), readable, 4):
            channel = names[passage.channel_name]
            assert all(town.sees(reader, channel) for reader in readers), (where, channel)
            assert all(f"said in {passage.channel_name}" in line for line in passage.lines)
            found += 1
            private += town.workspace.find(channel).kind == "private"
    # The rule must not be kept by finding nothing.
    assert found > request.config.getoption("--askers")
    assert private > found / 20


@pytest.fixture
def deployed(town: Town, tmp_path: Path) -> Iterator[tuple[FakeSlack, Archive, Engine]]:
    """The town's Slack, its archive and index, and the real engine with a parrot for a model."""
    for number, person in enumerate(town.people):
        town.workspace.channel("", person, id=f"D{number}", kind="im")
    settings = load_settings(environment(tmp_path))
    with (
        FakeSlack(town.workspace, limits=Limits.none(time_scale=50)) as slack,
        open_archive(settings.archive_at) as archive,
    ):
        sync(slack, archive)
        for person in town.people[:3]:
            archive.record_consent(archive.find_user(person), ConsentAction.GRANT, "tests")
        yield slack, archive, indexed_engine(settings, archive, Parrot())


def told(raw: object) -> set[str]:
    """The channels of which a text quotes what was said there."""
    return set(re.findall(r"said in (c\d+)", str(raw)))


def words(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=3))


def answers(slack: FakeSlack, where: str, asker: str, root: str) -> list[Any]:
    """What the bot said to a question, to all or to its asker alone."""
    return replies(slack, where, root) + [
        seen for seen in slack.ephemerals if (seen["channel"], seen["user"]) == (where, asker)
    ]


def ask(town: Town, chance: random.Random) -> tuple[str, str, str]:
    """Somebody asks somewhere, here and there in a thread; returns the channel, who, and the thread."""
    number = chance.randrange(len(town.people))
    asker = town.people[number]
    seen = [channel for channel in town.channels if asker in town.workspace.find(channel).members]
    where = chance.choice([*seen, f"D{number}"])
    mention = "" if where.startswith("D") else f"<@{town.workspace.bot_user}> "
    log = town.workspace.find(where).log
    # Each thread once, so that its answers are those to one question.
    bare = [] if where.startswith("D") else [str(raw["ts"]) for raw in log if not raw.get("thread_ts")]
    root = chance.choice(bare) if bare and chance.random() < 0.3 else None
    text = f"{mention}as <@{town.people[0]}> {words(chance)}"
    asked = town.workspace.post(where, asker, text, thread_ts=root)
    return where, asker, root or asked


async def test_a_model_that_repeats_its_prompt_tells_nobody_what_they_may_not_read(
    town: Town,
    deployed: tuple[FakeSlack, Archive, Engine],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    slack, archive, engine = deployed
    chance, quoted, private = random.Random(5), 0, 0
    ids = {town.workspace.find(channel).name: channel for channel in town.channels}

    def check(text: object, readers: Sequence[str]) -> None:
        nonlocal quoted, private
        for name in told(text):
            assert all(town.sees(reader, ids[name]) for reader in readers), (name, readers)
            quoted += 1
            private += town.workspace.find(ids[name]).kind == "private"

    async with listening(slack, archive, tmp_path, "socket", engine) as doppel:
        bot = archive.bot(town.workspace.team)
        for _ in range(request.config.getoption("--parrots") // BATCH):
            asked = [ask(town, chance) for _ in range(BATCH)]
            await doppel.until(lambda asked=asked: all(answers(slack, *one) for one in asked), 120)
            await doppel.until(lambda: not bot.open_questions())
            for where, asker, root in asked:
                for seen in answers(slack, where, asker, root):
                    is_alone = where.startswith("D") or seen in slack.ephemerals
                    check(seen, [asker] if is_alone else town.readers(where))
            slack.ephemerals.clear()
        readers = readers_of(doppel.run, archive, engine)
        for _ in range(request.config.getoption("--parrots")):
            asker = chance.choice(town.people)
            reader, talk = readers(f"{town.workspace.team}/{asker}"), ChatSession()
            talk.restart(chance.choice(await reader.engine.personas()))
            *_, exchange = [state async for state in talk.ask(reader.engine, words(chance), reader.audience)]
            assert exchange.finished, exchange.trouble
            check((exchange.text, exchange.sources), [asker])
        town.workspace.users[town.people[0]]["is_admin"] = True
        await doppel.command("sync", town.people[0], "D0")
        await doppel.until(bot.notices)
        tokens = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_API_URL": slack.api_url}
        await asyncio.to_thread(cli, tmp_path, "jobs", "work", environ=tokens)
        await doppel.until(lambda: not bot.notices())
    assert quoted > request.config.getoption("--parrots")
    assert private > quoted / 20
    notices = [raw["text"] for raw in town.workspace.find("D0").log if "is done" in raw["text"]]
    logs = [file.read_text(errors="replace") for file in (tmp_path / "logs").rglob("*") if file.is_file()]
    assert logs
    assert told([*notices, *logs, caplog.text, *capfd.readouterr()]) == set()


async def test_a_refusal_tells_nobody_that_there_is_more(
    town: Town, deployed: tuple[FakeSlack, Archive, Engine], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whoever asks, and whatever there is that they may not read, nothing but the name differs."""
    _, archive, _ = deployed
    settings = load_settings(environment(tmp_path) | {"DOPPEL_MIN_CONFIDENCE": "1"})
    engine = indexed_engine(settings, archive, Parrot())
    run = AppContext(settings, Quiet([]))
    readers, chance, near = readers_of(run, archive, engine), random.Random(9), 0
    ids = {town.workspace.find(channel).name: channel for channel in town.channels}
    for _ in range(request.config.getoption("--parrots")):
        asker = chance.choice(town.people)
        reader, talk = readers(f"{town.workspace.team}/{asker}"), ChatSession()
        talk.restart(chance.choice(await reader.engine.personas()))
        *_, exchange = [state async for state in talk.ask(reader.engine, words(chance), reader.audience)]
        assert exchange.text == NOT_FOUND.format(name=exchange.persona.name)
        for name in told(exchange.sources):
            assert town.sees(asker, ids[name])
            near += 1
    assert near > request.config.getoption("--parrots")


async def test_a_draft_rests_on_what_everybody_may_read_who_would_read_it(
    town: Town, deployed: tuple[FakeSlack, Archive, Engine], tmp_path: Path
) -> None:
    slack, archive, engine = deployed
    chance, quoted = random.Random(7), 0
    ids = {town.workspace.find(channel).name: channel for channel in town.channels}
    places = [(p, c) for p in town.people[:3] for c in town.channels if p in town.workspace.find(c).members]
    async with listening(slack, archive, tmp_path, "socket", engine) as doppel:
        for person, where in places:
            slack.ephemerals.clear()
            command = f"draft {words(chance)}" if chance.random() < 0.5 else "draft"
            await doppel.command(command, person, where)
            await doppel.until(lambda: SEND in str(slack.ephemerals), 60)
            for name in told(slack.ephemerals):
                assert all(town.sees(reader, ids[name]) for reader in town.readers(where)), (name, where)
                quoted += 1
    assert quoted > len(places)

"""Random askers in random places, with private channels around: nothing is found that anybody there may not read.

`--askers N` says how many; the default is small.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from doppel.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.bot.asked import Question
from doppel.bot.writing import Writer
from doppel.surfaces.bot import bot_client
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.engine import FakeEngine
from tests.fakes.slack import FakeSlack, Workspace
from tests.syncing import sync

PEOPLE, CHANNELS, MESSAGES = 30, 24, 400
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
def parts(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Archive, IndexRetriever, Writer]]:
    """The archive after a sync, its index, and the bot that decides what may be read."""
    folder = tmp_path_factory.mktemp("leaks")
    with FakeSlack(town.workspace) as slack, Archive.open(folder / "archive.db") as archive:
        sync(slack, archive)
        index = VersionedFolder(folder / "index", "index", "")
        reindex(archive, index, FakeEmbedder())
        client = bot_client(slack.bot_token, slack.api_url)
        bot = Writer(FakeEngine([]), archive, client, town.workspace.team)
        yield archive, IndexRetriever(index, FakeEmbedder(), archive), bot


def test_nobody_is_shown_what_somebody_there_may_not_read(
    town: Town, parts: tuple[Archive, IndexRetriever, Writer], request: pytest.FixtureRequest
) -> None:
    archive, retriever, bot = parts
    chance, found, private = random.Random(3), 0, 0
    users, channels = archive.users(), archive.channels()
    names = {channel.name: channel.id for channel in channels}
    for _ in range(request.config.getoption("--askers")):
        direct = chance.random() < 0.3
        asker = chance.choice(town.people)
        where = "D1" if direct else chance.choice([c for c in town.channels if town.sees(asker, c)] or town.channels)
        readers = [asker] if direct else town.readers(where)
        question = Question(where, "1.1", "1.1", asker, "", (), direct, addressed=True)
        readable = bot.place(question, users, channels).readable(channels)
        for passage in retriever.retrieve(" ".join(chance.choices(WORDS, k=3)), readable, 4):
            channel = names[passage.channel_name]
            assert all(town.sees(reader, channel) for reader in readers), (where, channel)
            assert all(f"said in {passage.channel_name}" in line for line in passage.lines)
            found += 1
            private += town.workspace.find(channel).kind == "private"
    # The rule must not be kept by finding nothing.
    assert found > request.config.getoption("--askers")
    assert private > found / 20

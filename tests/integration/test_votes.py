"""Votes and what else is pressed below an answer in Slack: by whom, where, and how often it counts."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from doppel.archive import Archive
from doppel.archive.bot import Answer
from doppel.bot.voting import Voting, could_see
from doppel.errors import ConsentError
from doppel.ingest import forget_person, open_archive
from doppel.records import Channel, ChannelKind, User
from doppel.slack.blocks import FEEDBACK, SHARE, Press, press_of
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.listening import Listening


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada, grace = made.user("ada", "Ada Lovelace", id="U1"), made.user("grace", "Grace Hopper", id="U2")
    made.user("lin", "Lin Clark", id="U3")
    made.user("gus", "Gus Guest", id="U4", is_restricted=True)
    made.channel("general", ada, grace, id="C1")
    made.channel("secret", ada, grace, id="C2", kind="private")
    made.channel("other", ada, grace, "U3", id="C3")
    made.channel("", ada, id="D1", kind="im")
    return made


@pytest.fixture
def way() -> str:
    return "socket"


async def answer(doppel: Listening, channel: str, asker: str) -> Answer:
    root = doppel.slack.workspace.post(channel, asker, f"<@{BOT}> why?")
    await doppel.answered(channel, root)
    return doppel.archive.bot(TEAM).answers(channel, root)[0]


async def vote(doppel: Listening, value: str, user: str, channel: str, ts: str) -> None:
    kind = "feedback_buttons"
    await doppel.act(doppel.slack.payloads.block_action(FEEDBACK, value, user=user, channel=channel, ts=ts, kind=kind))


def likes(archive: Archive) -> list[bool | None]:
    return [row.liked for row in archive.feedback()]


async def test_one_person_has_one_vote_on_an_answer_and_may_change_it(doppel: Listening, synced: Archive) -> None:
    first, second = await answer(doppel, "C1", "U2"), await answer(doppel, "C1", "U2")
    for value, kept in (("like", True), ("dislike", False), ("dislike", False), ("like", True), ("dislike", False)):
        await vote(doppel, f"{value}:{first.id}", "U2", "C1", first.thread_ts)
        await doppel.until(lambda kept=kept: likes(synced) == [kept])
    await vote(doppel, f"like:{first.id}", "U1", "C1", first.thread_ts)
    await vote(doppel, f"like:{second.id}", "U2", "C1", second.thread_ts)
    await doppel.until(lambda: len(likes(synced)) == 3)
    await asyncio.sleep(0.2)
    assert sorted(map(str, likes(synced))) == ["False", "True", "True"]


async def test_only_who_could_see_an_answer_votes_on_it_and_only_where_it_stands(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    secret, direct, public = [await answer(doppel, *at) for at in (("C2", "U1"), ("D1", "U1"), ("C1", "U2"))]
    elsewhere = slack.workspace.post("C1", "U2", "Lunch?")
    for told, user, channel, ts in (
        (secret, "U3", "C2", secret.thread_ts),
        (secret, "U2", "C1", elsewhere),
        (direct, "U2", "D1", direct.thread_ts),
        (public, "U4", "C1", public.thread_ts),
        (public, "U2", "C1", elsewhere),
        (public, "U2", "C3", slack.workspace.post("C3", "U2", "Hm.")),
        (public, BOT, "C1", public.thread_ts),
    ):
        await vote(doppel, f"like:{told.id}", user, channel, ts)
    for value in (f"like:{'0' * 16}", "like:", "like:' OR 1=1", public.id, ""):
        await vote(doppel, value, "U2", "C1", public.thread_ts)
    await vote(doppel, f"dislike:{public.id}", "U3", "C1", public.thread_ts)
    await doppel.until(lambda: likes(synced))
    await asyncio.sleep(0.3)
    assert likes(synced) == [False]
    await vote(doppel, f"like:{secret.id}", "U2", "C2", secret.thread_ts)
    await vote(doppel, f"like:{direct.id}", "U1", "D1", direct.thread_ts)
    await doppel.until(lambda: len(likes(synced)) == 3)


async def test_a_shared_answer_is_shared_once(doppel: Listening, slack: FakeSlack, synced: Archive) -> None:
    root, other = slack.workspace.post("C1", "U2", "Well."), slack.workspace.post("C3", "U2", "Well.")
    told = synced.bot(TEAM).add_answer(
        1, channel="C1", thread_ts=root, asker="U2", user_id="U1", version=None, question="q", reply="It is four.",
        sources=(), private=True,
    )  # fmt: skip
    for user, channel, ts in (("U1", "C1", root), ("U2", "C3", other), *[("U2", "C1", root)] * 3):
        await doppel.act(slack.payloads.block_action(SHARE, told.id, user=user, channel=channel, ts=ts))
    shared = slack.workspace.find("C1").log
    await doppel.until(lambda: any("It is four." in str(raw) for raw in shared))
    await asyncio.sleep(0.5)
    assert sum("It is four." in str(raw) for raw in shared) == 1
    assert not any("It is four." in str(raw) for raw in slack.workspace.find("C3").log)


def test_nothing_in_the_archive_tells_who_voted(where: Path | str) -> None:
    press = Press("U2", "C1", "1.1")
    with open_archive(where) as archive:
        add_people(archive)
        told = add_answer(archive)
        for secret in ("one secret", "one secret", "another secret"):
            Voting(archive, TEAM, secret)._vote(f"like:{told.id}", press)
        with archive._engine.connect() as connection:
            rows = [str(row) for row in connection.exec_driver_sql("SELECT * FROM feedback")]
        assert len(rows) == 2
        assert not any("U2" in row or "grace" in row for row in rows)


def test_a_vote_takes_the_place_of_its_earlier_one_alone(where: Path | str) -> None:
    with open_archive(where) as archive:

        def add(question: str, liked: bool | None, vote: str | None = None, replaces: int | None = None) -> int:
            return archive.add_feedback(
                "T1", "U1", version=None, question=question, reply="r", liked=liked, vote=vote, replaces=replaces
            ).id

        plain = [add("a", True), add("a", True)]
        voted = [add("b", True, "v"), add("b", None, "v"), add("c", True, "w")]
        assert add("a", False, replaces=plain[1]) == plain[1]
        assert voted[0] == voted[1]
        other = archive.add_feedback("T2", "U1", version=None, question="d", reply="", replaces=plain[0])
        assert [(row.id, row.question, row.liked) for row in archive.feedback()] == [
            (plain[0], "a", True),
            (plain[1], "a", False),
            (voted[0], "b", None),
            (voted[2], "c", True),
            (other.id, "d", None),
        ]
        forget_person(archive, User("T1", "U1", "ada"), messages=False, by="tests")
        with pytest.raises(ConsentError):
            add("b", True, "v")


def add_people(archive: Archive) -> None:
    from doppel.archive import database, tables

    with database.writing(archive._engine, archive.backend) as connection:
        named = {"real_name": "", "display_name": "", "is_bot": False, "deleted": False, "is_guest": False, "as_of": 0}
        for id_, handle in (("U1", "ada"), ("U2", "grace")):
            connection.execute(tables.users.insert().values(team=TEAM, id=id_, handle=handle, **named))
        place = {"name": "general", "kind": ChannelKind.PUBLIC, "members": [], "archived": False, "as_of": 0}
        connection.execute(tables.channels.insert().values(team=TEAM, id="C1", **place))


def add_answer(archive: Archive) -> Answer:
    return archive.bot(TEAM).add_answer(
        1, channel="C1", thread_ts="1.1", asker="U2", user_id="U1", version=None, question="q", reply="r", sources=()
    )


OPEN, ROOM = (
    Channel("T1", "C1", "open", ChannelKind.PUBLIC, ("A",)),
    Channel("T1", "C2", "room", ChannelKind.PRIVATE, ("A",)),
)
UNKNOWN = Channel("T1", "C3", "lost", ChannelKind.UNKNOWN, ("A",))
TOLD = Answer("x", 1, "C1", "1.1", "A", "P", None, "q", "r", ())
HERE = Press("A", "C1", "1.1")


@pytest.mark.parametrize(
    ("answer", "press", "user", "seen"),
    [
        (TOLD, HERE, User("T1", "A", "a"), True),
        (TOLD, HERE, User("T1", "A", "a", is_bot=True), False),
        (TOLD, HERE, User("T1", "A", "a", deleted=True), False),
        (TOLD, dataclasses.replace(HERE, thread_ts=""), User("T1", "A", "a"), True),
        (TOLD, dataclasses.replace(HERE, thread_ts="2.2"), User("T1", "A", "a"), False),
        (TOLD, dataclasses.replace(HERE, channel=""), User("T1", "A", "a"), False),
        (TOLD, dataclasses.replace(HERE, user="B"), User("T1", "B", "b"), True),
        (TOLD, dataclasses.replace(HERE, user="B"), User("T1", "A", "a"), False),
        (TOLD, dataclasses.replace(HERE, user="G"), User("T1", "G", "g", is_guest=True), False),
        (TOLD, HERE, User("T1", "A", "a", is_guest=True), True),
        (dataclasses.replace(TOLD, private=True), HERE, User("T1", "A", "a"), True),
        (dataclasses.replace(TOLD, private=True, asker="B"), HERE, User("T1", "A", "a"), False),
        (dataclasses.replace(TOLD, channel="C2"), Press("A", "C2", "1.1"), User("T1", "A", "a"), True),
        (dataclasses.replace(TOLD, channel="C2"), Press("B", "C2", "1.1"), User("T1", "B", "b"), False),
        (dataclasses.replace(TOLD, channel="C3"), Press("A", "C3", "1.1"), User("T1", "A", "a"), False),
        (dataclasses.replace(TOLD, channel="C9"), Press("A", "C9", "1.1"), User("T1", "A", "a"), False),
        (dataclasses.replace(TOLD, channel="D1"), Press("A", "D1", "1.1"), User("T1", "A", "a"), True),
        (dataclasses.replace(TOLD, channel="D1"), Press("B", "D1", "1.1"), User("T1", "B", "b"), False),
    ],
)
def test_who_could_see_an_answer(answer: Answer, press: Press, user: User, seen: bool) -> None:
    here = next((channel for channel in (OPEN, ROOM, UNKNOWN) if channel.id == answer.channel), None)
    assert could_see(answer, press, user, here) is seen


@pytest.mark.parametrize(
    ("body", "press"),
    [
        (
            {
                "user": {"id": "U1"},
                "container": {"channel_id": "C1", "message_ts": "2.2"},
                "message": {"ts": "2.2", "thread_ts": "1.1"},
            },
            Press("U1", "C1", "1.1"),
        ),
        ({"user": {"id": "U1"}, "channel": {"id": "C1"}, "message": {"ts": "2.2"}}, Press("U1", "C1", "2.2")),
        ({"user": {"id": "U1"}, "container": {"channel_id": "C1", "thread_ts": "1.1"}}, Press("U1", "C1", "1.1")),
        ({"user": "U1", "container": None, "message": 7}, Press("", "", "")),
    ],
)
def test_where_somebody_pressed(body: dict[str, object], press: Press) -> None:
    assert press_of(body) == press

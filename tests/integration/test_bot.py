"""The bot in a fake Slack, by Socket Mode and over HTTP: asked in every way, answered once, from what may be read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from doppel.access import Audience, Readership
from doppel.archive import Archive
from doppel.bot.answering import INTERRUPTED
from doppel.bot.question_parser import Question, question_of
from doppel.bot.writing import UNEXPECTED
from doppel.errors import ConsentError, NotReadableError
from doppel.records import Channel, ChannelKind, User
from doppel.slack.blocks import SHARE
from tests.block_kit import faults
from tests.fakes.engine import FakeEngine, Wait, answer, passage
from tests.fakes.slack import BOT, TEAM, FakeSlack, Fault, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import ADA, GRACE, Listening, listening, replies

AI_MARK = "Written by an AI in the manner of Ada, not by Ada"


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada, grace = made.user("ada", "Ada Lovelace", id="U1"), made.user("grace", "Grace Hopper", id="U2")
    made.user("lin", "Lin Clark", id="U3")
    made.user("guest", "Gus Guest", id="U4", is_restricted=True)
    made.channel("general", ada, grace, "U3", id="C1")
    made.channel("secret", ada, "U3", id="C2", kind="private")
    made.channel("lobby", ada, "U4", id="C3")
    made.channel("", ada, id="D1", kind="im")
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.slack.message_transport.Stream.pause", 0.02)
    monkeypatch.setattr("doppel.slack.message_transport.Updates.pause", 0.02)


def shown(raw: Json) -> str:
    """All that can be read of a message."""
    return f"{raw['text']} {raw.get('blocks', '')}"


async def test_a_mention_is_answered_in_its_thread_as_the_person(
    way: str, slack: FakeSlack, synced: Archive, tmp_path: Path
) -> None:
    slack.workspace.update_user("U1", profile={"image_192": "https://pictures.example/ada.png"})
    engine = FakeEngine([ADA], lambda persona, turns: answer(persona, "It woke us at night. " * 9, [passage()]))
    async with listening(slack, synced, tmp_path, way, engine, duplicates=1.0) as doppel:
        root = slack.workspace.post("C1", "U2", f"<@{BOT}> why did we drop <@U3>'s Kafka?")
        (raw,) = await doppel.answered("C1", root)
        await asyncio.sleep(0.3)
        assert replies(slack, "C1", root) == [raw]
    assert raw["text"].split() == ("It woke us at night. " * 9).split()
    assert raw["username"] == "Ada"
    assert "ada.png" in str(raw["icons"])
    assert AI_MARK in shown(raw)
    assert passage().permalink in shown(raw)
    assert faults(raw["blocks"], "message") == []
    ((persona, turns, _),) = engine.asked
    assert persona == ADA
    assert [turn.text for turn in turns] == ["why did we drop @lin's Kafka?"]


async def test_calls_of_slack_share_their_connections(slack: FakeSlack, synced: Archive, tmp_path: Path) -> None:
    async with listening(slack, synced, tmp_path, "socket", FakeEngine([ADA])) as doppel:
        slack.ports.clear()
        before = len(slack.calls)
        for number in range(4):
            root = slack.workspace.post("C1", "U2", f"<@{BOT}> is this question {number}, a long one?")
            await doppel.answered("C1", root)
        assert len(slack.calls) - before >= 9
        assert len(slack.ports) <= 2


FORWARD = {
    "is_msg_unfurl": True,
    "is_share": True,
    "author_id": "U3",
    "author_name": "lin",
    "channel_id": "C2",
    "channel_name": "secret",
    "text": "Kafka is <https://a.org|gone>.",
}
TABLE = {"type": "table", "rows": [[{"type": "raw_text", "text": "gateway"}, {"type": "raw_text", "text": "8443"}]]}


async def test_what_stands_below_a_question_is_asked_with_it_but_not_kept(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    words = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": []}]}
    for text, more in (
        (f"<@{BOT}> what do you think of this?", {"attachments": [FORWARD]}),
        (f"<@{BOT}>", {"attachments": [FORWARD]}),
        (f"<@{BOT}> right?", {"blocks": [words, TABLE], "files": [{"title": "plan.pdf"}]}),
    ):
        root = slack.workspace.post("C1", "U2", text, **more)
        await doppel.answered("C1", root)
        (kept,) = synced.bot(TEAM).answers("C1", root)
        assert kept.question in ("what do you think of this?", "What do you think?", "right?")
    forwarded = "[forwarded from lin] Kafka is gone (https://a.org)."
    assert [turns[-1].text for _, turns, _ in engine.asked] == [
        f"what do you think of this?\n{forwarded}",
        f"What do you think?\n{forwarded}",
        "right?\ngateway | 8443\n[file: plan.pdf]",
    ]


async def test_a_direct_message_and_what_follows_in_a_thread_need_no_mention(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    direct = slack.workspace.post("D1", "U1", "Anything new?")
    await doppel.answered("D1", direct)
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> first")
    await doppel.answered("C1", root)
    slack.workspace.post("C1", "U3", "second", thread_ts=root)
    await doppel.answered("C1", root, 2)
    other = slack.workspace.post("C1", "U3", "Lunch?")
    slack.workspace.post("C1", "U2", "Yes!", thread_ts=other)
    slack.workspace.post("C1", "U2", "A robot speaks.", thread_ts=root, bot_id="B9", subtype="bot_message")
    await doppel.settle()
    assert [[turn.text for turn in turns] for _, turns, _ in engine.asked] == [
        ["Anything new?"],
        ["first"],
        ["@Doppel first", "About first", "second"],
    ]
    assert replies(slack, "C1", other) == []


async def test_who_answers_is_said_once_and_sticks_to_the_thread(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    engine.people = [ADA, GRACE]
    root = slack.workspace.post("C1", "U3", f"<@{BOT}> hello?")
    (raw,) = await doppel.answered("C1", root)
    assert "Say whom to ask" in raw["text"]
    assert "Ada, Grace can be asked" in raw["text"]
    slack.workspace.post("C1", "U3", f"<@{BOT}> as <@U2> who are you?", thread_ts=root)
    await doppel.answered("C1", root, 2)
    slack.workspace.post("C1", "U3", "and you?", thread_ts=root)
    await doppel.answered("C1", root, 3)
    synced.bot(TEAM).set_default_persona("U1", "C1")
    again = slack.workspace.post("C1", "U3", f"<@{BOT}> and here?")
    await doppel.answered("C1", again)
    panel = slack.workspace.post("C1", "U3", f"<@{BOT}> panel <@U1> <@U2> tabs or spaces?")
    both = await doppel.answered("C1", panel, 2)
    assert [persona.name for persona, *_ in engine.asked] == ["Grace", "Grace", "Ada", "Ada", "Grace"]
    assert [turns[-1].text for _, turns, _ in engine.asked][-2:] == ["tabs or spaces?"] * 2
    assert [raw["username"] for raw in both] == ["Ada", "Grace"]


async def test_what_may_be_read_is_what_everybody_there_may_read(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    for channel, asker in (("C1", "U1"), ("C2", "U1"), ("C3", "U1"), ("D1", "U1")):
        await doppel.answered(channel, slack.workspace.post(channel, asker, f"<@{BOT}> what is new?"))
    readable = [{id_ for _, id_ in audience.readable(synced.channels())} for *_, audience in engine.asked]
    assert readable == [{"C1", "C3"}, {"C1", "C2", "C3"}, {"C3"}, {"C1", "C2", "C3"}]


def wider(audience: Audience) -> float:
    """As if the best source were in the private channel C2."""
    return (
        0.9
        if (TEAM, "C2") in audience.readable([Channel(TEAM, "C2", "secret", ChannelKind.PRIVATE, ("U1", "U3"))])
        else 0.4
    )


async def test_what_rests_on_a_source_for_the_asker_alone_is_shown_to_them_alone(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    engine.script = lambda p, turns: answer(p, f"The budget: {turns[-1].text}", [passage(channel="secret")])
    engine.near = wider
    root = slack.workspace.post("C1", "U3", f"<@{BOT}> how much?")
    await doppel.until(lambda: slack.ephemerals and not synced.bot(TEAM).open_questions())
    (shown_to_one,) = slack.ephemerals
    # No thread has begun there, and in one that hasn't Slack shows nobody what one alone is to see.
    assert (shown_to_one["user"], shown_to_one["thread_ts"], slack.unshown) == ("U3", None, [])
    assert faults(shown_to_one["blocks"], "message") == []
    assert "Only you see this" in shown(shown_to_one)
    assert replies(slack, "C1", root) == []

    slack.workspace.post("C1", "U2", "and now?", thread_ts=root)
    await doppel.answered("C1", root)
    assert [turn.text for turn in engine.asked[-1][1]] == ["@Doppel how much?", "and now?"]

    blocks = [b for b in shown_to_one["blocks"] if b["type"] == "actions"]
    value = blocks[0]["elements"][0]["value"]
    for presser in ("U2", "U3"):
        pressed = slack.payloads.block_action(SHARE, value, user=presser, channel="C1", ts=root)
        await doppel.act(pressed)
    found = await doppel.answered("C1", root, 2)
    await asyncio.sleep(0.3)
    now = replies(slack, "C1", root)
    assert [raw["ts"] for raw in now] == [raw["ts"] for raw in found]
    shared = now[-1]
    assert "The budget: how much?" in shared["text"]
    assert AI_MARK in shown(shared)
    assert "Shared by" in shown(shared)
    assert passage().permalink not in shown(shared)
    assert "secret" not in shown(shared)


async def test_in_a_thread_that_has_begun_it_is_shown_there(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    engine.script = lambda p, turns: answer(p, "The budget.", [passage(channel="secret")])
    engine.near = wider
    root = slack.workspace.post("C1", "U2", "The budget is due.")
    slack.workspace.post("C1", "U3", f"<@{BOT}> how much?", thread_ts=root)
    await doppel.until(lambda: slack.ephemerals and not synced.bot(TEAM).open_questions())
    assert [(seen["user"], seen["thread_ts"]) for seen in slack.ephemerals] == [("U3", root)]
    assert slack.unshown == []


async def test_an_adapter_that_may_not_answer_here_answers_its_asker(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    engine.script = lambda p, t: [NotReadableError("no")] if len(engine.asked) == 1 else answer(p, "Yes.")
    slack.workspace.post("C1", "U1", f"<@{BOT}> may I?")
    await doppel.until(lambda: slack.ephemerals and not synced.bot(TEAM).open_questions())
    assert "Yes." in shown(slack.ephemerals[0])


async def test_a_failure_is_said_in_the_thread(doppel: Listening, slack: FakeSlack, engine: FakeEngine) -> None:
    outcomes: list[list[Any]] = [
        [ConsentError("Ada has not agreed.")],
        [*answer(ADA, "A good beginning of an answer")[:-1], RuntimeError("secret text")],
        answer(ADA, ""),
    ]
    engine.script = lambda persona, turns: outcomes[len(engine.asked) - 1]
    roots = []
    for number in range(3):
        roots.append(slack.workspace.post("C1", "U2", f"<@{BOT}> question {number}"))
        await doppel.answered("C1", roots[-1])
    (refused,), (broken,), (silent,) = (replies(slack, "C1", root) for root in roots)
    assert "Ada has not agreed." in shown(refused)
    assert broken["text"].startswith("A good beginning")
    assert UNEXPECTED.split(";")[0] in shown(broken)
    assert "The model wrote nothing" in shown(silent)
    assert not any("secret" in line for line in doppel.said)


async def test_where_streams_are_not_to_be_had_the_message_is_updated(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    slack.behaviour.stream_seconds = -1
    engine.script = lambda persona, turns: answer(persona, "word " * 50, pause=0.01)
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> talk")
    (raw,) = await doppel.answered("C1", root)
    assert slack.count("chat.update") >= 1
    assert "word " * 49 in shown(raw)
    assert AI_MARK in shown(raw)


async def test_a_very_long_answer_goes_on_in_a_second_message(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    text = "\n".join(f"Line {number} of many words that say little." for number in range(380))
    engine.script = lambda persona, turns: answer(persona, text)
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> talk")
    found = await doppel.answered("C1", root, 2)
    assert len(found) == 2
    assert max(len(raw["text"]) for raw in found) < 12_000
    assert "\n".join(raw["text"] for raw in found).split() == text.split()
    assert [AI_MARK in shown(raw) for raw in found] == [False, True]


async def test_hostile_words_of_the_model_ping_nobody(doppel: Listening, slack: FakeSlack, engine: FakeEngine) -> None:
    hostile = "<!channel> @here <@U3> [https://good.example](https://evil.example) key xoxb-123456789012-abcdefABCDEF"
    engine.script = lambda persona, turns: answer(persona, hostile)
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> say it")
    (raw,) = await doppel.answered("C1", root)
    for bad in ("<!channel>", "@here", "<@U3>", "xoxb-1234", "](https"):
        assert bad not in raw["text"]
    assert "https://evil.example" in raw["text"]


async def test_a_vote_is_kept_with_what_was_asked_and_which_version_answered(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> why?")
    (raw,) = await doppel.answered("C1", root)
    element = next(block for block in raw["blocks"] if block["type"] == "context_actions")["elements"][0]
    press = slack.payloads.block_action(
        element["action_id"],
        element["negative_button"]["value"],
        user="U2",
        channel="C1",
        ts=raw["ts"],
        kind="feedback_buttons",
    )
    await doppel.act(press)
    await doppel.until(synced.feedback)
    (feedback,) = synced.feedback()
    assert (feedback.user_id, feedback.version, feedback.question, feedback.reply, feedback.liked) == (
        "U1",
        "v0001",
        "why?",
        "About why?",
        False,
    )


async def test_after_a_restart_an_open_question_is_answered_or_apologised_for(
    way: str, slack: FakeSlack, synced: Archive, tmp_path: Path
) -> None:
    never = asyncio.Event()
    stuck = FakeEngine([ADA], lambda p, t: [*answer(p, "A good beginning of an answer")[:-1], Wait(never)])
    async with listening(slack, synced, tmp_path, way, stuck) as doppel:
        begun = slack.workspace.post("C1", "U2", f"<@{BOT}> begun")
        await doppel.until(lambda: any(q.posted_ts for q in synced.bot(TEAM).open_questions()))
        stuck.script = lambda p, t: [Wait(never)]
        waiting = slack.workspace.post("C1", "U2", f"<@{BOT}> waiting")
        await doppel.until(lambda: len(synced.bot(TEAM).open_questions()) == 2)
    async with listening(slack, synced, tmp_path, way, FakeEngine([ADA])) as doppel:
        await doppel.answered("C1", begun)
        await doppel.answered("C1", waiting)
    (apology,), (late,) = replies(slack, "C1", begun), replies(slack, "C1", waiting)
    assert INTERRUPTED in shown(apology)
    assert late["text"].strip() == "About waiting"


MENTION = {"type": "app_mention", "channel": "C1", "user": "U2", "ts": "5.1", "text": f"<@{BOT}> why?"}
ASKED = Question("C1", "5.1", "5.1", "U2", "why?", (), direct=False, addressed=True)


@pytest.mark.parametrize(
    ("event", "question"),
    [
        (MENTION, ASKED),
        (MENTION | {"thread_ts": "4.1"}, Question("C1", "5.1", "4.1", "U2", "why?", (), False, True)),
        (
            MENTION | {"text": f"Hey <@{BOT}|doppel>: why?"},
            Question("C1", "5.1", "5.1", "U2", "Hey  why?", (), False, True),
        ),
        (
            MENTION | {"text": f"<@{BOT}> as <@U1>, why?"},
            Question("C1", "5.1", "5.1", "U2", "why?", ("U1",), False, True),
        ),
        (
            MENTION | {"text": f"<@{BOT}> Panel <@U1>, <@U2> and <@U3>: why?"},
            Question("C1", "5.1", "5.1", "U2", "why?", ("U1", "U2", "U3"), False, True),
        ),
        (MENTION | {"bot_id": "B1"}, None),
        (MENTION | {"user": BOT}, None),
        (MENTION | {"subtype": "message_changed"}, None),
        (MENTION | {"type": "message", "channel_type": "channel"}, None),
        (MENTION | {"type": "message", "channel_type": "channel", "thread_ts": "4.1"}, None),
        (
            MENTION | {"type": "message", "channel_type": "channel", "thread_ts": "4.1", "text": "and?"},
            Question("C1", "5.1", "4.1", "U2", "and?", (), False, False),
        ),
        (
            MENTION | {"type": "message", "channel_type": "im", "channel": "D1", "text": "why?"},
            Question("D1", "5.1", "5.1", "U2", "why?", (), True, True),
        ),
        ({"type": "reaction_added"}, None),
        ({}, None),
    ],
)
def test_what_an_event_asks(event: dict[str, Any], question: Question | None) -> None:
    assert question_of(event, BOT) == question


def channel(id_: str, kind: ChannelKind, *members: str) -> Channel:
    return Channel("T1", id_, id_, kind, members)


PEOPLE = [
    User("T1", "A", "a"),
    User("T1", "B", "b"),
    User("T1", "G", "g", is_guest=True),
    User("T1", "X", "x", is_bot=True),
]
OPEN, OTHER = channel("open", ChannelKind.PUBLIC, "A", "B"), channel("lobby", ChannelKind.PUBLIC, "A", "G")
PRIVATE, WIDER = channel("private", ChannelKind.PRIVATE, "A", "X"), channel("wider", ChannelKind.PRIVATE, "A", "B")
UNKNOWN, ELSEWHERE = (
    channel("unknown", ChannelKind.UNKNOWN, "A", "B"),
    Channel("T2", "z", "z", ChannelKind.PUBLIC, ("A",)),
)
CHANNELS = [OPEN, OTHER, PRIVATE, WIDER, UNKNOWN, ELSEWHERE]


@pytest.mark.parametrize(
    ("readers", "readable"),
    [
        (Readership.of_channel(OPEN, "T1", PEOPLE), {"open", "lobby"}),
        (Readership.of_channel(OTHER, "T1", PEOPLE), {"lobby"}),
        (Readership.of_channel(PRIVATE, "T1", PEOPLE), {"open", "lobby", "private", "wider"}),
        (Readership.of_channel(WIDER, "T1", PEOPLE), {"open", "lobby", "wider"}),
        (Readership.of_channel(UNKNOWN, "T1", PEOPLE), set()),
        (Readership.of_channel(None, "T1", PEOPLE), set()),
        (Readership.of_channel(channel("new", ChannelKind.PUBLIC), "T1", PEOPLE), set()),
        (Readership.of_person("T1", "B", PEOPLE), {"open", "lobby", "wider"}),
        (Readership.of_person("T1", "G", PEOPLE), {"lobby"}),
        (Readership.of_person("T1", "stranger", PEOPLE), set()),
    ],
)
def test_who_may_read_what(readers: Readership, readable: set[str]) -> None:
    assert {id_ for _, id_ in readers.readable(CHANNELS)} == readable


async def test_a_sentence_that_slack_refuses_at_first_is_said_again(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doppel.bot.writing.SAY_AGAIN_SECONDS", (0.05, 0.05, 0.05))
    engine.script = lambda persona, turns: [ConsentError("Ada has not agreed.")]
    slack.faults.fail_next(Fault.SERVER_ERROR, 2, "chat.postMessage")
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> why?")
    (raw,) = await doppel.answered("C1", root)
    assert "Ada has not agreed." in shown(raw)

"""How much one person may ask for in Slack: how long a question is, how many wait, and what others wait for them."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from doppel.archive import Archive
from doppel.bot import answering
from doppel.bot.question_parser import question_of
from doppel.slack.draft_blocks import EDIT, FORM
from doppel.timestamps import micros
from tests.block_kit import elements
from tests.fakes.engine import FakeEngine, Wait, answer
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import ADA, Listening, listening, replies, serving

LIMIT = 4_000

pytestmark = pytest.mark.usefixtures("ada_agreed")


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada, grace = made.user("ada", "Ada Lovelace", id="U1"), made.user("grace", "Grace Hopper", id="U2")
    made.channel("general", ada, grace, id="C1")
    made.channel("", ada, id="D1", kind="im")
    made.post("C1", "U2", "Why did we drop Kafka?")
    return made


@pytest.fixture
def time_scale() -> float:
    return 1


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([ADA], lambda persona, turns: answer(persona, "Because."))


@pytest.fixture
def way() -> str:
    return "socket"


def limited(
    slack: FakeSlack, archive: Archive, data_dir: Path, limits: dict[str, str], engine: FakeEngine
) -> AbstractAsyncContextManager[Listening]:
    """Doppel with settings of its own."""
    return serving(slack, archive, data_dir, "socket", {"SLACK_BOT_TOKEN": slack.bot_token} | limits, engine)


def texts(slack: FakeSlack, channel: str, root: str) -> list[str]:
    return [str(raw["text"]) for raw in replies(slack, channel, root)]


def long(words: int) -> str:
    """A text of so many characters, which begins as no other does."""
    return ("Why, my dear colleagues, " * (words // 25 + 1))[: words - 1] + "?"


def refusal(chars: int) -> str:
    return f"A question may have 4,000 characters, and this one has {chars:,}; shorten it and ask again."


def stored(archive: Archive) -> str:
    """All that is kept of questions, answers and drafts."""
    with archive._engine.connect() as connection:
        tables = ("questions", "answers", "drafts", "voices")
        return "".join(str(connection.exec_driver_sql(f"SELECT * FROM {name}").all()) for name in tables)


async def test_a_question_that_is_too_long_is_refused_in_every_way_of_asking(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    first = slack.workspace.post("C1", "U2", f"<@{BOT}> why?")
    await doppel.answered("C1", first)
    asked, before = len(engine.asked), stored(synced)
    too_long = long(LIMIT + 1)
    roots = [
        ("C1", slack.workspace.post("C1", "U2", f"<@{BOT}> {too_long}"), 1),
        ("C1", slack.workspace.post("C1", "U2", f"<@{BOT}> as <@U1> {too_long}"), 1),
        ("D1", slack.workspace.post("D1", "U1", too_long), 1),
        ("C1", first, 2),
    ]
    slack.workspace.post("C1", "U2", too_long, thread_ts=first)
    for channel, root, number in roots:
        await doppel.until(lambda at=(channel, root), number=number: len(texts(slack, *at)) == number)
        assert texts(slack, channel, root)[-1] == refusal(LIMIT + 1)
    for number, words in enumerate(("ask", "ask as <@U1>", "draft", "use", "train"), 1):
        await doppel.command(f"{words} {too_long}")
        await doppel.until(lambda number=number: len(slack.responses.said) == number)
        assert slack.responses.said[-1]["text"] == refusal(LIMIT + 1)
    assert len(engine.asked) == asked
    assert "my dear colleagues" not in stored(synced).removeprefix(before)
    assert not synced.bot(TEAM).open_questions()
    assert not any("asks:" in raw["text"] for raw in slack.workspace.find("C1").log)


async def test_a_question_that_is_just_short_enough_is_answered(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    root = slack.workspace.post("C1", "U2", f"<@{BOT}> as <@U1> {long(LIMIT)}")
    await doppel.command(f"ask as <@U1> {long(LIMIT)}")
    await doppel.until(lambda: texts(slack, "C1", root) and len(engine.asked) == 2)
    assert {len(turns[-1].text) for _, turns, _ in engine.asked} == {LIMIT}


async def test_a_refusal_is_said_once_however_often_slack_sends_the_question(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with listening(slack, synced, tmp_path, "http", engine, duplicates=1.0) as doppel:
        root = slack.workspace.post("C1", "U2", f"<@{BOT}> {long(LIMIT + 1)}")
        await doppel.until(lambda: texts(slack, "C1", root))
        await asyncio.sleep(0.4)
        assert texts(slack, "C1", root) == [refusal(LIMIT + 1)]


async def test_a_changed_draft_is_no_longer_than_a_form_lets_it_be(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    await doppel.command("draft")
    await doppel.until(lambda: len(slack.ephemerals) == 2)
    buttons = elements(slack.ephemerals[1]["blocks"], "button")
    value = next(button["value"] for button in buttons if button["action_id"] == EDIT)
    await doppel.act(slack.payloads.ephemeral_action(EDIT, value, user="U1", channel="C1", ts="1.1"))
    await doppel.until(lambda: slack.views)
    (view_id,) = slack.views
    field = {"type": "plain_text_input", "value": long(3_001)}
    form = slack.payloads.view_submission(view_id, {"reply": {"text": field}}, user="U1")
    assert form["view"]["callback_id"] == FORM
    await doppel.act(form)
    await doppel.until(lambda: slack.responses.said)
    assert "too long" in slack.responses.said[-1]["text"]
    assert "my dear colleagues" not in stored(synced)


async def test_a_very_long_message_that_is_answered_reaches_the_prompt_by_its_end(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    slack.workspace.post("C1", "U2", long(30_000) + " And now?")
    await doppel.settle()
    await doppel.command("draft", "U2")
    ts = next(raw["ts"] for raw in slack.workspace.find("C1").log if "And now?" in raw["text"])
    await doppel.act(slack.payloads.message_shortcut("draft_reply", user="U1", channel="C1", ts=ts))
    await doppel.until(lambda: engine.asked)
    ((_, turns, _),) = engine.asked
    assert len(turns[-1].text) == LIMIT
    assert turns[-1].text.endswith(" And now?")


SECONDS = 0.5


async def test_eighty_questions_of_one_make_another_wait_for_one_answer_at_most(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    limits = {"DOPPEL_QUESTIONS_WAITING": "100", "DOPPEL_ANSWERS_AT_ONCE": "16"}
    engine.script = lambda persona, turns: [Wait(SECONDS), *answer(persona, "Because.")]
    async with limited(slack, synced, tmp_path, limits, engine) as doppel:
        for number in range(80):
            slack.workspace.post("C1", "U1", f"<@{BOT}> number {number}?")
        await doppel.until(lambda: len(engine.asked) >= 8)
        started = time.monotonic()
        other = slack.workspace.post("C1", "U2", f"<@{BOT}> mine?")
        await doppel.until(lambda: texts(slack, "C1", other))
        waited = time.monotonic() - started
        of_one = sum("number" in turns[-1].text for _, turns, _ in engine.asked)
    # All eighty take five seconds at least: ten rounds of eight.
    assert waited < 6 * SECONDS
    assert of_one < 56


async def test_who_waits_for_their_turn_is_told_so_once_and_they_alone(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "PATIENCE_SECONDS", 0.3)
    gate = asyncio.Event()
    engine.script = lambda persona, turns: [Wait(gate), *answer(persona, "Because.")]
    async with limited(slack, synced, tmp_path, {"DOPPEL_ANSWERS_AT_ONCE": "1"}, engine) as doppel:
        first = slack.workspace.post("C1", "U1", f"<@{BOT}> mine?")
        await doppel.until(lambda: engine.asked)
        second = slack.workspace.post("C1", "U2", f"<@{BOT}> and mine?")
        await doppel.until(lambda: slack.ephemerals)
        gate.set()
        await doppel.until(lambda: texts(slack, "C1", first) and texts(slack, "C1", second))
        await asyncio.sleep(0.5)
    assert [(seen["user"], seen["text"]) for seen in slack.ephemerals] == [("U2", answering.WAITING)]
    assert slack.unshown == []


async def test_beyond_the_bound_one_is_told_how_many_wait(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    gate = asyncio.Event()
    engine.script = lambda persona, turns: [Wait(gate), *answer(persona, "Because.")]
    async with limited(slack, synced, tmp_path, {"DOPPEL_ANSWERS_AT_ONCE": "16"}, engine) as doppel:
        roots = [slack.workspace.post("C1", "U1", f"<@{BOT}> number {n}?") for n in range(8 + 20 + 3)]
        await doppel.until(lambda: sum(bool(texts(slack, "C1", root)) for root in roots) == 3)
        told = [texts(slack, "C1", root) for root in roots]
        assert [text for found in told for text in found] == [
            "20 of your questions are waiting already; ask again when some are answered."
        ] * 3
        assert [bool(found) for found in told[:8]] == [False] * 8
        gate.set()
        await doppel.until(lambda: all(texts(slack, "C1", root) for root in roots))
        await doppel.until(lambda: not synced.bot(TEAM).open_questions())
    assert sum("Because." in str(texts(slack, "C1", root)) for root in roots) == 8 + 20


async def test_after_a_restart_those_who_waited_are_taken_by_turns_and_none_is_refused(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    limits = {"DOPPEL_ANSWERS_AT_ONCE": "1", "DOPPEL_QUESTIONS_WAITING": "1"}
    for number, user in enumerate(["U1"] * 4 + ["U2"] * 2):
        ts = slack.workspace.post("C1", user, f"<@{BOT}> {user} {number}")
        event: Json = {
            "type": "app_mention",
            "channel": "C1",
            "user": user,
            "ts": ts,
            "text": f"<@{BOT}> {user} {number}",
        }
        assert question_of(event, BOT)
        synced.bot(TEAM).accept([(f"Ev{number}", event)], micros(ts))
    async with limited(slack, synced, tmp_path, limits, engine) as doppel:
        await doppel.until(lambda: not synced.bot(TEAM).open_questions())
    assert [turns[-1].text for _, turns, _ in engine.asked] == ["U1 0", "U2 4", "U1 1", "U2 5", "U1 2", "U1 3"]


async def test_what_one_asks_in_a_thread_begins_in_its_order(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    limits = {"DOPPEL_ANSWERS_AT_ONCE": "1"}
    async with limited(slack, synced, tmp_path, limits, engine) as doppel:
        root = slack.workspace.post("C1", "U1", f"<@{BOT}> 0")
        await doppel.until(lambda: texts(slack, "C1", root))
        for number in range(1, 6):
            slack.workspace.post("C1", "U1", f"<@{BOT}> {number}", thread_ts=root)
        await doppel.until(lambda: len(texts(slack, "C1", root)) == 6)
    assert [turns[-1].text for _, turns, _ in engine.asked] == [str(number) for number in range(6)]

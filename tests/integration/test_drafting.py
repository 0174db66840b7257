"""Draft mode in a fake Slack: a reply in the caller's own voice, for them alone, sent once and only by them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from doppel.access import ConsentAction
from doppel.archive import Archive
from doppel.bot import draft_troubles
from doppel.bot.writing import UNEXPECTED
from doppel.errors import NotReadableError
from doppel.records import MessageKind, Persona
from doppel.slack.draft_blocks import AGAIN, EDIT, FORM, HINT, SEND, SHORTCUT
from tests.block_kit import elements, faults, form_faults
from tests.fakes.engine import FakeEngine, answer, passage
from tests.fakes.slack import BOT, TEAM, FakeSlack, Fault, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import Listening, listening
from tests.syncing import sync

ADA, GRACE = Persona(TEAM, "U1", "ada", "ada", "v0001"), Persona(TEAM, "U2", "grace", "grace")


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada = made.user("ada", "Ada Lovelace", id="U1", profile={"image_192": "https://pictures.example/ada.png"})
    grace = made.user("grace", "Grace Hopper", id="U2")
    made.user("lin", "Lin Clark", id="U3")
    made.channel("general", ada, grace, "U3", id="C1")
    made.channel("secret", ada, grace, id="C2", kind="private")
    made.channel("away", ada, grace, id="C9", bot=False)
    made.post("C1", "U2", "Why did we drop Kafka?")
    made.post("C2", "U2", "What is the budget?")
    return made


@pytest.fixture
def time_scale() -> float:
    """Five times slower than Slack, so that a form opens in time on a busy machine."""
    return 0.2


@pytest.fixture
def synced(synced: Archive) -> Archive:
    """Ada and Grace agreed."""
    for user in ("U1", "U2"):
        synced.record_consent(synced.find_user(user), ConsentAction.GRANT, f"slack:{user}")
    return synced


@pytest.fixture
def engine() -> FakeEngine:
    made = FakeEngine([ADA, GRACE])
    made.script = lambda persona, turns: answer(persona, f"It woke us {len(made.asked)} times.", [passage()])
    return made


@pytest.fixture
def way() -> str:
    return "http"


def drafts(slack: FakeSlack) -> list[Json]:
    """What was shown to one person alone with buttons to send it, as a new message or in the place of one."""
    return [raw for raw in (*slack.ephemerals, *slack.responses.said) if elements(raw.get("blocks", []), "button")]


def told(slack: FakeSlack) -> str:
    """All that one person alone was told."""
    return "\n".join(str(raw.get("text")) for raw in (*slack.ephemerals, *slack.responses.said))


def told_of(slack: FakeSlack, sentence: str) -> int:
    """How many commands and buttons were answered so."""
    return sum(raw.get("text") == sentence for raw in slack.responses.said)


def posted(slack: FakeSlack, channel: str = "C1") -> list[Json]:
    """What the bot posted for all to see."""
    return [raw for raw in slack.workspace.find(channel).log if raw.get("bot_id")]


async def refused(doppel: Listening, text: str = "draft", user: str = "U1", channel: str = "C1") -> str:
    """Why nothing is drafted; said by a command's own way, which Slack leaves open everywhere."""
    answer = await doppel.answer_to(text, user, channel)
    assert drafts(doppel.slack) == []
    return str(answer["text"])


async def drafted(doppel: Listening, number: int = 1) -> Json:
    """The draft that is shown last, once there are so many."""
    await doppel.until(lambda: len(drafts(doppel.slack)) >= number)
    return drafts(doppel.slack)[-1]


async def press(doppel: Listening, action: str, shown: Json, user: str = "U1", channel: str = "C1") -> None:
    value = next(e["value"] for e in elements(shown["blocks"], "button") if e["action_id"] == action)
    ts = shown.get("ts", "1.000001")
    pressed = doppel.slack.payloads.ephemeral_action(action, value, user=user, channel=channel, ts=ts)
    await doppel.act(pressed)


async def open_form(doppel: Listening, shown: Json) -> str:
    """Press Edit; returns the form's id."""
    before = set(doppel.slack.views)
    await press(doppel, EDIT, shown)
    await doppel.until(lambda: set(doppel.slack.views) - before)
    (view_id,) = set(doppel.slack.views) - before
    return view_id


async def submit(doppel: Listening, view_id: str, text: str, user: str = "U1") -> None:
    """Send a form with `text` in it."""
    (field,) = elements(doppel.slack.views[view_id]["blocks"], "input")
    values = {field["block_id"]: {field["element"]["action_id"]: {"type": "plain_text_input", "value": text}}}
    await doppel.act(doppel.slack.payloads.view_submission(view_id, values, user=user))


async def edit(doppel: Listening, shown: Json, text: str, user: str = "U1") -> Json:
    """Change a draft to `text`; returns the form."""
    view_id = await open_form(doppel, shown)
    await submit(doppel, view_id, text, user)
    return doppel.slack.views[view_id]


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_a_draft_is_for_its_caller_alone_until_they_send_it(
    way: str, slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with listening(slack, synced, tmp_path, way, engine) as doppel:
        await doppel.command("draft")
        shown = await drafted(doppel)
        assert (shown["user"], shown["channel"], shown["thread_ts"]) == ("U1", "C1", None)
        assert posted(slack) == []
        assert faults(shown["blocks"]) == []
        for said in ("Only you see this", "It woke us 1 times.", "Written by an AI in the manner of ada", "|grace>"):
            assert said in str(shown["blocks"])
        assert passage().permalink in str(shown["blocks"])
        await press(doppel, SEND, shown)
        await doppel.until(lambda: "Sent." in told(slack))
        assert slack.responses.said[-1]["replace_original"]
    (raw,) = posted(slack)
    assert (raw["username"], raw.get("thread_ts")) == ("ada", None)
    assert "ada.png" in str(raw["icons"])
    assert faults(raw["blocks"]) == []
    assert raw["blocks"][0]["text"] == "It woke us 1 times."
    assert "Drafted by Doppel, an AI, read and sent by ada · version v0001" in str(raw["blocks"])
    ((persona, turns, place),) = engine.asked
    assert persona == ADA
    assert [(turn.author, turn.text, turn.by_persona) for turn in turns] == [("grace", "Why did we drop Kafka?", False)]
    assert {id_ for _, id_ in place.readable(synced.channels())} == {"C1", "C9"}


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_a_message_is_answered_in_its_thread_from_what_was_said_there_before(
    way: str, slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with listening(slack, synced, tmp_path, way, engine) as doppel:
        root = slack.workspace.post("C1", "U2", "Tabs?")
        slack.workspace.post("C1", "U1", "Spaces.", thread_ts=root)
        asked = slack.workspace.post("C1", "U3", "Why, @ada?", thread_ts=root)
        slack.workspace.post("C1", "U2", "Never mind.", thread_ts=root)
        await doppel.settle()
        shortcut = slack.payloads.message_shortcut(SHORTCUT, user="U1", channel="C1", ts=asked)
        await doppel.act(shortcut)
        shown = await drafted(doppel)
        assert shown["thread_ts"] == root
        await press(doppel, SEND, shown)
        await doppel.until(lambda: posted(slack))
    (raw,) = posted(slack)
    assert raw["thread_ts"] == root
    ((_, turns, _),) = engine.asked
    assert [(t.text, t.by_persona) for t in turns] == [("Tabs?", False), ("Spaces.", True), ("Why, @ada?", False)]


async def test_a_thread_that_has_not_begun_begins_with_the_reply(doppel: Listening, slack: FakeSlack) -> None:
    alone = slack.workspace.post("C1", "U3", "Is anybody there?")
    await doppel.settle()
    await doppel.act(slack.payloads.message_shortcut(SHORTCUT, user="U1", channel="C1", ts=alone))
    shown = await drafted(doppel)
    # Slack would show it to nobody in a thread without a reply.
    assert shown["thread_ts"] is None
    await press(doppel, SEND, shown)
    await doppel.until(lambda: posted(slack))
    assert posted(slack)[0]["thread_ts"] == alone


async def test_words_that_the_caller_gives_are_answered(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    await doppel.command("draft What does <@U2|grace> want?\nSay it in one line.", channel="C2")
    shown = await drafted(doppel)
    await press(doppel, SEND, shown, channel="C2")
    await doppel.until(lambda: posted(slack, "C2"))
    ((_, turns, place),) = engine.asked
    assert [turn.text for turn in turns] == ["What does @grace want?\nSay it in one line."]
    assert {id_ for _, id_ in place.readable(doppel.archive.channels())} == {"C1", "C2", "C9"}


async def test_nobody_is_drafted_for_who_did_not_agree_or_rests(
    doppel: Listening, synced: Archive, engine: FakeEngine
) -> None:
    assert await refused(doppel, user="U3") == draft_troubles.NOT_AGREED
    synced.record_consent(synced.find_user("U1"), ConsentAction.PAUSE, "slack:U1")
    assert await refused(doppel) == draft_troubles.RESTING
    synced.record_consent(synced.find_user("U1"), ConsentAction.RESUME, "slack:U1")
    synced.record_consent(synced.find_user("U1"), ConsentAction.REVOKE, "slack:U1")
    assert await refused(doppel) == draft_troubles.NOT_AGREED
    assert engine.asked == []


async def test_what_can_t_be_drafted_is_said_in_one_sentence(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    for words in ("draft", "draft Hello?"):
        assert await refused(doppel, words, channel="C9") == draft_troubles.INVITE
    slack.workspace.channel("new", "U1", id="C7")
    await doppel.command("draft", channel="C7")
    await doppel.until(lambda: draft_troubles.NOTHING_SAID in told(slack))
    own = slack.workspace.post("C1", "U1", "I said so.")
    automatic = slack.workspace.post("C1", "U2", "Build failed.", bot_id="B9", subtype="bot_message")
    await doppel.settle()
    for ts, sentence in ((own, draft_troubles.OWN), (automatic, draft_troubles.NOT_THERE)):
        await doppel.act(slack.payloads.message_shortcut(SHORTCUT, user="U1", channel="C1", ts=ts))
        await doppel.until(lambda sentence=sentence: sentence in told(slack))
    assert engine.asked == []
    engine.script = lambda persona, turns: [NotReadableError("The adapter of ada may not be used here.")]
    assert await refused(doppel) == "The adapter of ada may not be used here."
    engine.script = lambda persona, turns: [RuntimeError("secret words")]
    assert await refused(doppel) == UNEXPECTED
    engine.script = lambda persona, turns: answer(persona, "")
    assert "wrote nothing" in await refused(doppel)


async def test_what_a_model_or_its_person_writes_pings_nobody_and_tells_no_secret(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    hostile = "<!channel> @here <@U3> [https://good.example](https://evil.example) key xoxb-123456789012-abcdefABCDEF"
    engine.script = lambda persona, turns: answer(persona, hostile)
    await doppel.command("draft")
    shown = await drafted(doppel)
    await press(doppel, SEND, shown)
    await doppel.until(lambda: len(posted(slack)) == 1)
    await doppel.command("draft")
    await edit(doppel, await drafted(doppel, 2), f"Mine: {hostile}")
    await doppel.until(lambda: len(posted(slack)) == 2)
    for raw in (shown, *posted(slack)):
        for bad in ("<!channel>", "@here", "<@U3>", "xoxb-1234", "](https"):
            assert bad not in str(raw)
    assert "Mine:" in posted(slack)[-1]["blocks"][0]["text"]
    assert "xoxb" not in str(doppel.archive.kept_edits(doppel.archive.find_user("U1")))


async def test_what_its_person_changes_is_sent_and_kept_and_what_they_don_t_is_not(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    await doppel.command("draft")
    form = await edit(doppel, await drafted(doppel), "It woke us every night.")
    assert form_faults({key: form[key] for key in form.keys() - {"id", "hash", "state", *OWN_KEYS}}) == []
    assert form["callback_id"] == FORM
    (field,) = elements(form["blocks"], "input")
    assert field["element"]["initial_value"] == "It woke us 1 times."
    assert field["hint"]["text"] == HINT
    await doppel.until(lambda: "Sent." in told(slack))
    (raw,) = posted(slack)
    assert raw["blocks"][0]["text"] == "It woke us every night."
    assert "then changed and sent by ada" in str(raw["blocks"])
    await doppel.command("draft And why?")
    await edit(doppel, await drafted(doppel, 2), "It woke us 2 times.")
    await doppel.until(lambda: len(posted(slack)) == 2)
    await doppel.until(lambda: told_of(slack, "Sent.") == 2)
    assert "read and sent by ada" in str(posted(slack)[1]["blocks"])
    (kept,) = synced.kept_edits(synced.find_user("U1"))
    asked = next(m for m in synced.messages([(TEAM, "C1")]) if "Kafka" in m.text)
    assert (kept.answered_ts, kept.question, kept.text) == (asked.ts, "", "It woke us every night.")
    assert kept.sent_ts == raw["ts"]


OWN_KEYS = ("team_id", "app_id", "bot_id")
"""What Slack adds to a form."""


async def test_again_writes_another_one_in_its_place_and_the_first_can_t_be_sent_any_more(
    doppel: Listening, slack: FakeSlack
) -> None:
    await doppel.command("draft")
    first = await drafted(doppel)
    await press(doppel, AGAIN, first)
    second = await drafted(doppel, 2)
    assert second["replace_original"]
    assert "It woke us 2 times." in str(second["blocks"])
    assert faults(second["blocks"]) == []
    await press(doppel, SEND, first)
    await doppel.until(lambda: draft_troubles.GONE in told(slack))
    assert posted(slack) == []
    await press(doppel, SEND, second)
    await doppel.until(lambda: posted(slack))
    assert posted(slack)[0]["blocks"][0]["text"] == "It woke us 2 times."


async def test_a_draft_that_can_t_be_written_again_stays(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    await doppel.command("draft")
    first = await drafted(doppel)
    engine.script = lambda persona, turns: [NotReadableError("Not here.")]
    await press(doppel, AGAIN, first)
    again = await drafted(doppel, 2)
    assert "Not here." in str(again["blocks"])
    assert "It woke us 1 times." in str(again["blocks"])
    assert faults(again["blocks"]) == []
    await press(doppel, SEND, again)
    await doppel.until(lambda: posted(slack))


async def test_only_its_person_sends_a_draft_and_only_once(doppel: Listening, slack: FakeSlack) -> None:
    await doppel.command("draft")
    shown = await drafted(doppel)
    for action in (SEND, AGAIN, EDIT):
        await press(doppel, action, shown, user="U2")
    await doppel.until(lambda: told_of(slack, draft_troubles.GONE) == 3)
    assert posted(slack) == []
    assert slack.views == {}
    await edit(doppel, shown, "Mine now.", user="U2")
    await doppel.until(lambda: told_of(slack, draft_troubles.GONE) == 4)
    assert posted(slack) == []
    await asyncio.gather(*(press(doppel, SEND, shown) for _ in range(6)))
    await doppel.until(lambda: told_of(slack, draft_troubles.GONE) == 9)
    assert len(posted(slack)) == 1


async def test_whoever_left_the_conversation_neither_sends_there_nor_is_drafted_for_again(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    await doppel.command("draft", channel="C2")
    shown = await drafted(doppel)
    slack.workspace.leave("C2", "U1")
    await doppel.until(lambda: "U1" not in next(c.members for c in synced.channels() if c.id == "C2"))
    for action in (SEND, AGAIN, EDIT):
        await press(doppel, action, shown, channel="C2")
    await doppel.until(lambda: told_of(slack, draft_troubles.LEFT) == 3)
    assert (posted(slack, "C2"), slack.views, len(engine.asked)) == ([], {}, 1)


async def test_a_form_and_a_button_at_once_send_one_of_the_two(doppel: Listening, slack: FakeSlack) -> None:
    await doppel.command("draft")
    shown = await drafted(doppel)
    form = await open_form(doppel, shown)
    await asyncio.gather(submit(doppel, form, "Changed."), press(doppel, SEND, shown))
    await doppel.until(lambda: draft_troubles.GONE in told(slack) and posted(slack))
    assert len(posted(slack)) == 1


async def test_after_a_restart_the_buttons_still_work(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with listening(slack, synced, tmp_path, "socket", engine) as doppel:
        await doppel.command("draft")
        shown = await drafted(doppel)
    async with listening(slack, synced, tmp_path, "socket", engine) as doppel:
        await press(doppel, AGAIN, shown)
        again = await drafted(doppel, 2)
    async with listening(slack, synced, tmp_path, "http", engine) as doppel:
        await edit(doppel, again, "After all.")
        await doppel.until(lambda: posted(slack))
    (_, before, _), (_, after, _) = engine.asked
    assert before == after
    assert posted(slack)[0]["blocks"][0]["text"] == "After all."


async def test_what_slack_refuses_can_be_sent_later_with_all_that_was_changed(
    doppel: Listening, slack: FakeSlack
) -> None:
    await doppel.command("draft")
    first = await drafted(doppel)
    slack.workspace.find("C1").archived = True
    await edit(doppel, first, "My own words.")
    again = await drafted(doppel, 2)
    assert "is_archived" in str(again["blocks"])
    assert "My own words." in str(again["blocks"])
    assert faults(again["blocks"]) == []
    slack.workspace.find("C1").archived = False
    await press(doppel, SEND, first)
    await doppel.until(lambda: draft_troubles.GONE in told(slack))
    await press(doppel, SEND, again)
    await doppel.until(lambda: posted(slack))
    assert "then changed and sent by ada" in str(posted(slack)[0]["blocks"])


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DROPPED, Fault.SERVER_ERROR, Fault.FATAL_ERROR, Fault.HTML])
async def test_a_draft_that_slack_may_have_taken_is_not_sent_again(
    doppel: Listening, slack: FakeSlack, fault: Fault
) -> None:
    await doppel.command("draft")
    shown = await drafted(doppel)
    slack.faults.fail_next(fault, 1, "chat.postMessage")
    await press(doppel, SEND, shown)
    await doppel.until(lambda: draft_troubles.MAYBE_SENT in told(slack))
    await press(doppel, SEND, shown)
    await doppel.until(lambda: draft_troubles.GONE in told(slack))
    assert len(posted(slack)) == (1 if fault is Fault.CUT else 0)


async def test_a_rate_limit_only_delays_a_draft(doppel: Listening, slack: FakeSlack) -> None:
    await doppel.command("draft")
    slack.faults.fail_next(Fault.RATE_LIMITED, 1, "chat.postMessage")
    await press(doppel, SEND, await drafted(doppel))
    await doppel.until(lambda: "Sent." in told(slack))
    assert len(posted(slack)) == 1


async def test_a_draft_that_was_sent_is_neither_a_source_nor_something_to_learn_from(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    await doppel.command("draft")
    await press(doppel, SEND, await drafted(doppel))
    await doppel.until(lambda: posted(slack))
    await doppel.settle()
    sync(slack, synced)
    sent = next(m for m in synced.messages([(TEAM, "C1")]) if m.ts == posted(slack)[0]["ts"])
    assert (sent.kind, sent.user in (None, BOT)) == (MessageKind.BOT, True)
    last = synced.last_said(TEAM, "C1", "U2")
    assert last is not None
    assert last.ts != sent.ts
    assert sent.ts not in [m.ts for m in synced.leading_to(TEAM, "C1", last.ts)]


async def test_whoever_is_forgotten_leaves_no_draft_and_no_edit(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    await doppel.command("draft")
    await edit(doppel, await drafted(doppel), "It was a zebrafish.")
    await doppel.until(lambda: synced.kept_edits(synced.find_user("U1")))
    await doppel.settle()
    sync(slack, synced)
    await doppel.command("draft")
    open_one = await drafted(doppel, 2)
    assert "2 drafts" in (await doppel.answer_to("forget me"))["text"]
    assert synced.kept_edits(synced.find_user("U1")) == []
    assert "zebrafish" not in str(list(synced.messages()))
    await press(doppel, SEND, open_one)
    await doppel.until(lambda: draft_troubles.GONE in told(slack))


def test_the_metadata_of_a_form_is_small() -> None:
    from doppel.slack.draft_blocks import form

    made: dict[str, Any] = form("x" * 9_000, "a" * 64, "https://hooks.slack.com/actions/" + "b" * 200)
    assert form_faults(made) == []
    assert json.loads(made["private_metadata"])[0] == "a" * 64


async def test_with_the_bot_alone_a_draft_rests_on_what_its_caller_may_read(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    slack.workspace.channel("", "U1", id="D1", kind="im")
    await doppel.command("draft What is the budget?", channel="D1")
    await press(doppel, SEND, await drafted(doppel), channel="D1")
    await doppel.until(lambda: posted(slack, "D1"))
    ((_, _, place),) = engine.asked
    assert {id_ for _, id_ in place.readable(doppel.archive.channels())} == {"C1", "C2", "C9"}
    assert not [message for message in doppel.archive.messages() if message.channel == "D1"]

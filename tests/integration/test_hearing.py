"""What a question in Slack is asked with: the thread, what was said just before, the conversation with the bot."""

from __future__ import annotations

from pathlib import Path

import pytest

from doppel.access import ConsentAction
from doppel.archive import Archive
from doppel.archive.drafts import Wanted
from doppel.config import load_settings
from doppel.ingest import forget_person
from doppel.records import MessageKind, Turn
from doppel.timestamps import micros, now_micros
from tests.answering import Parrot, indexed_engine
from tests.end_to_end import environment
from tests.fakes.engine import FakeEngine, answer
from tests.fakes.slack import BOT, TEAM, FakeSlack, Fault, Workspace
from tests.listening import ADA, GRACE, Listening, listening, replies
from tests.syncing import sync


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    ada, grace = made.user("ada", "Ada Lovelace", id="U1"), made.user("grace", "Grace Hopper", id="U2")
    made.user("lin", "Lin Clark", id="U3")
    made.channel("general", ada, grace, "U3", id="C1")
    made.channel("", ada, id="D1", kind="im")
    return made


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([ADA, GRACE], lambda persona, turns: answer(persona, f"Answer {len(turns)}."))


async def asked(doppel: Listening, channel: str, user: str, text: str, thread_ts: str | None = None) -> str:
    """Ask, and wait for the whole answer; returns the question's timestamp."""
    ts = doppel.slack.workspace.post(channel, user, text, thread_ts=thread_ts)
    root = thread_ts or ts
    await doppel.answered(channel, root, len(replies(doppel.slack, channel, root)) + 1)
    return ts


def said(turns: tuple[Turn, ...]) -> list[tuple[str, str]]:
    return [(turn.author, turn.text) for turn in turns]


async def test_a_mention_in_a_thread_is_asked_with_the_thread(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    post = slack.workspace.post
    post("C1", "U3", "Lunch at noon.")
    root = post("C1", "U2", "Kafka woke us again. Shall we move to Postgres?")
    post("C1", "U1", "I would.", thread_ts=root)
    gone = post("C1", "U3", "Something that is deleted.", thread_ts=root)
    post("C1", "U3", "Who moves the data?", thread_ts=root)
    post("C1", None, "Build 7 is green.", thread_ts=root, subtype="bot_message", bot_id="B9", username="ci")
    slack.workspace.delete("C1", gone)
    ts = await asked(doppel, "C1", "U3", f"<@{BOT}> as <@U1> what do you think?", root)
    ((persona, turns, _),) = engine.asked
    assert persona == ADA
    assert said(turns) == [
        ("grace", "Kafka woke us again. Shall we move to Postgres?"),
        ("ada", "I would."),
        ("lin", "Who moves the data?"),
        ("lin", "what do you think?"),
    ]
    assert [turn.by_persona for turn in turns] == [False, True, False, False]
    (heard,) = engine.dialogues
    assert (heard.channel, heard.is_thread) == ("general", True)
    assert heard.span
    assert (heard.span.thread_ts, heard.span.last_ts) == (root, ts)


async def test_what_doppelgangers_answered_before_is_heard_and_told_apart(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    root = await asked(doppel, "C1", "U3", f"<@{BOT}> as <@U1> why did we drop Kafka?")
    await asked(doppel, "C1", "U3", f"<@{BOT}> as <@U2> and you?", root)
    await asked(doppel, "C1", "U2", f"<@{BOT}> as <@U1> and why not?", root)
    _, turns, _ = engine.asked[-1]
    assert [(t.author, t.by_persona, t.by_ai) for t in turns] == [
        ("lin", False, False),
        ("ada", True, True),
        ("lin", False, False),
        ("grace", False, True),
        ("grace", False, False),
    ]
    assert [t.text for t in turns if t.by_ai] == ["Answer 1.", "Answer 3."]


async def test_what_a_person_sent_through_doppel_is_their_turn(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    synced.record_consent(synced.get_user(TEAM, "U1"), ConsentAction.GRANT, "tests")
    root = slack.workspace.post("C1", "U2", "Which queue do we use?")
    await doppel.settle()
    drafts, wanted = synced.drafts(TEAM), Wanted("U1", "C1", root, root)
    made = drafts.add(now_micros(), wanted, "None.", "v0001", now_micros())
    assert made
    edited = drafts.edit(made, "Postgres, since May.")
    assert edited
    drafts.claim(edited.id)
    drafts.finish(edited, slack.workspace.post("C1", BOT, "Postgres, since May.", thread_ts=root))
    await asked(doppel, "C1", "U2", f"<@{BOT}> as <@U1> why?", root)
    _, turns, _ = engine.asked[-1]
    assert said(turns)[1] == ("ada", "Postgres, since May.")
    assert (turns[1].by_persona, turns[1].by_ai) == (True, False)


async def test_outside_of_a_thread_it_is_asked_with_what_was_said_just_before(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    hour, now = 3600, slack.workspace.post("C1", "U2", "now")
    slack.workspace.delete("C1", now)
    begin = int(micros(now) / 1e6)
    old = [("U2", "Yesterday's news.", 30 * hour), ("U3", "Indeed.", 29 * hour)]
    for user, text, before in [*old, ("U2", "The queue is full again.", 600), ("U3", "Since when?", 300)]:
        slack.workspace.post("C1", user, text, ts=f"{begin - before}.000100")
    await asked(doppel, "C1", "U2", f"<@{BOT}> as <@U1> any idea?")
    _, turns, _ = engine.asked[-1]
    assert said(turns) == [
        ("grace", "The queue is full again."),
        ("lin", "Since when?"),
        ("grace", "any idea?"),
    ]
    assert not engine.dialogues[-1].is_thread


async def test_a_direct_conversation_goes_on_under_the_askers_name(
    doppel: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    await asked(doppel, "D1", "U1", "as <@U2> which queue do we use?")
    root = await asked(doppel, "D1", "U1", "as <@U2> since when?")
    assert said(engine.asked[-1][1]) == [
        ("ada", "which queue do we use?"),
        ("grace", "Answer 1."),
        ("ada", "since when?"),
    ]
    # A thread there is a conversation of its own.
    await asked(doppel, "D1", "U1", "and who knows?", root)
    assert [text for _, text in said(engine.asked[-1][1])] == ["since when?", "Answer 3.", "and who knows?"]
    assert engine.dialogues[-1].channel == ""


async def test_a_thread_that_the_archive_lacks_is_read_from_slack_and_not_stored(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    """The bot was invited just now: what was said before came by no event."""
    slack.workspace.channel("new", "U1", "U2", "U3", id="C7", kind="private", bot=False)
    root = slack.workspace.post("C7", "U2", "The broker is full.")
    slack.workspace.post("C7", "U3", "I forgot that I said so.", thread_ts=root)
    forget_person(synced, synced.get_user(TEAM, "U3"), messages=True, by="tests")
    slack.workspace.post("C7", "U1", "Delete the old topics.", thread_ts=root)
    slack.workspace.join("C7", BOT)
    await asked(doppel, "C7", "U2", f"<@{BOT}> as <@U1> what do you think?", root)
    assert said(engine.asked[-1][1]) == [
        ("grace", "The broker is full."),
        ("ada", "Delete the old topics."),
        ("grace", "what do you think?"),
    ]
    people = [m.text for m in synced.messages([(TEAM, "C7")]) if m.kind is MessageKind.HUMAN]
    assert people == ["@Doppel as @ada what do you think?"]


async def test_where_slack_does_not_tell_either_the_question_stands_alone(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    slack.workspace.channel("new", "U1", "U2", id="C7", kind="private", bot=False)
    root = slack.workspace.post("C7", "U2", "The broker is full.")
    slack.workspace.join("C7", BOT)
    slack.faults.fail_next(Fault.FATAL_ERROR, 20, "conversations.replies")
    await asked(doppel, "C7", "U2", f"<@{BOT}> as <@U1> what do you think?", root)
    assert said(engine.asked[-1][1])[-1] == ("grace", "what do you think?")


async def test_the_prompt_that_reaches_the_model_holds_the_thread(
    slack: FakeSlack, synced: Archive, tmp_path: Path
) -> None:
    slack.workspace.post("C1", "U3", "Postgres replaced Kafka in May, as three people can't run it.")
    sync(slack, synced)
    synced.record_consent(synced.get_user(TEAM, "U1"), ConsentAction.GRANT, "tests")
    made = indexed_engine(load_settings(environment(tmp_path)), synced, Parrot())
    async with listening(slack, synced, tmp_path, "socket", made) as doppel:
        root = slack.workspace.post("C1", "U2", "Kafka woke us again.")
        slack.workspace.post("C1", "U1", "I heard it.", thread_ts=root)
        await asked(doppel, "C1", "U3", f"<@{BOT}> as <@U1> what do you think?", root)
    (raw,) = replies(slack, "C1", root)
    # The parrot says what it was asked.
    told = str(raw)
    assert "grace: Kafka woke us again." in told
    assert "I heard it." in told
    assert "lin: what do you think?" in told

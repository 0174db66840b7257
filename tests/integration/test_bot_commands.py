"""`/doppel`, consent and App home in a fake Slack: what is done, who may, and what is said about it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from doppel.access import ConsentAction, has_consent, is_paused
from doppel.adapters import adapter_name
from doppel.archive import Archive
from doppel.archive.forgotten import FORGOTTEN_NAME
from doppel.bot import consenting
from doppel.bot.commands import FORGET_HELP, HELP
from doppel.slack.consent_blocks import AGREE, DECLINE, WITHDRAW
from tests.block_kit import faults, view_faults
from tests.fakes.engine import FakeEngine
from tests.fakes.model_server import FakeModelServer
from tests.fakes.slack import TEAM, FakeSlack, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import ADA, GRACE, Listening
from tests.syncing import sync


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    made.user("ada", "Ada Lovelace", id="U1", is_admin=True)
    made.user("grace", "Grace Hopper", id="U2")
    made.user("gus", "Gus Guest", id="U4", is_restricted=True)
    made.channel("general", "U1", "U2", id="C1")
    made.channel("away", "U1", id="C9", bot=False)
    made.post("C1", "U1", "We dropped Kafka in March.")
    return made


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([ADA, replace(GRACE, version=None)])


async def say(doppel: Listening, text: str, user: str = "U2", channel: str = "C1") -> str:
    """What somebody alone reads after typing a command."""
    answer = await doppel.answer_to(text, user, channel)
    assert answer["response_type"] == "ephemeral"
    return str(answer["text"])


async def press(doppel: Listening, action: str, value: str, user: str, message: Json | None = None) -> None:
    place = message or {"channel": "C1", "ts": next(iter(doppel.slack.workspace.find("C1").log))["ts"]}
    pressed = doppel.slack.payloads.block_action(action, value, user=user, channel=place["channel"], ts=place["ts"])
    if message is None:
        pressed["view"] = {"type": "home"}
    await doppel.act(pressed)


def direct_messages(slack: FakeSlack, user: str) -> list[Json]:
    """What the bot wrote to somebody alone, newest last."""
    rooms = [c for c in slack.workspace.channels.values() if c.kind == "im" and user in c.members]
    return [{**raw, "channel": room.id} for room in rooms for raw in room.log if raw.get("bot_id")]


def actions(archive: Archive, user: str) -> list[ConsentAction]:
    return [record.action for record in archive.consent_records() if record.user_id == user]


def value_of(message: Json, action: str) -> str:
    elements = [e for block in message["blocks"] if block["type"] == "actions" for e in block["elements"]]
    return str(next(e["value"] for e in elements if e["action_id"] == action))


async def test_help_list_and_status(doppel: Listening) -> None:
    assert await say(doppel, "") == await say(doppel, "help") == await say(doppel, "nonsense") == HELP
    assert await say(doppel, "list") == "*Who can be asked*\n• Ada, version v0001\n• Grace, no adapter yet"
    assert "1 messages of 2 channels" in await say(doppel, "status")


async def test_ask_in_a_channel_and_where_the_bot_is_not(doppel: Listening, slack: FakeSlack) -> None:
    assert "in the thread" in await say(doppel, "ask as <@U1|ada> why <!channel> Kafka?")
    root = next(raw for raw in slack.workspace.find("C1").log if "asks:" in raw["text"])
    assert "<!channel>" not in root["text"]
    await doppel.until(lambda: slack.workspace.find("C1").log.replies(root["ts"]))
    await doppel.until(lambda: not doppel.archive.bot(TEAM).open_questions())
    (reply,) = slack.workspace.find("C1").log.replies(root["ts"])
    assert reply["username"] == "Ada"
    for words in ("ask", "ask as <@U1>", "ask panel <@U1>, <@U2>"):
        assert "Write your question" in await say(doppel, words)
    await say(doppel, "ask as <@U1>, why not?")
    assert (
        next(raw["text"] for raw in slack.workspace.find("C1").log if "not?" in raw["text"]) == "<@U2> asks: why not?"
    )
    assert "Invite me" in await say(doppel, "ask anybody?", user="U1", channel="C9")


async def test_what_only_admins_may_do_is_refused_to_others(doppel: Listening) -> None:
    for words in ("sync", "reindex", "cancel abc", "use <@U1> workspace"):
        assert await say(doppel, words) == "Only admins of this workspace may do that."
    assert "from now on" in await say(doppel, "use <@U1> workspace", user="U1")
    assert "Ada answers here" in await say(doppel, "use @ada")
    store = doppel.archive.bot(TEAM)
    assert (store.default_persona(), store.default_persona("C1")) == ("U1", "U1")


async def test_a_job_asked_for_in_slack_is_queued_cancelled_and_told_of(doppel: Listening, slack: FakeSlack) -> None:
    answer = await say(doppel, "reindex", user="U1")
    job = next(job for job in doppel.jobs() if job.kind == "reindex")
    assert job.id in answer
    assert job.id in await say(doppel, "status")
    assert "cancelled" in await say(doppel, f"cancel {job.id}", user="U1")
    await doppel.until(lambda: any(f"Job {job.id}" in raw["text"] for raw in slack.workspace.find("C1").log))
    await doppel.until(lambda: doppel.archive.bot(TEAM).notices() == [])
    assert "No job's id begins" in await say(doppel, "cancel zzz", user="U1")


async def test_training_somebody_asks_that_person_first(doppel: Listening, slack: FakeSlack, synced: Archive) -> None:
    assert "in a direct message" in await say(doppel, "train <@U1>", user="U2")
    assert "was asked already" in await say(doppel, "train <@U1>", user="U2")
    (asked,) = direct_messages(slack, "U1")
    assert faults(asked["blocks"], "message") == []
    request = value_of(asked, AGREE)
    await press(doppel, AGREE, request, "U2", asked)
    assert actions(synced, "U1") == []
    assert [job.kind for job in doppel.jobs() if job.kind == "train"] == []
    await press(doppel, AGREE, request, "U1", asked)
    await doppel.until(lambda: any(job.kind == "train" for job in doppel.jobs()))
    assert actions(synced, "U1") == [ConsentAction.GRANT]
    (record,) = synced.consent_records()
    assert record.by == "slack:U1"
    (job,) = [job for job in doppel.jobs() if job.kind == "train"]
    assert job.arguments == ["--user", "U1", "--team", "T0FAKE0001"]
    assert "You agreed" in str(direct_messages(slack, "U1")[0]["blocks"])
    await press(doppel, DECLINE, request, "U1", asked)
    assert actions(synced, "U1") == [ConsentAction.GRANT]


async def test_a_declined_and_an_expired_request_train_nobody(
    doppel: Listening, slack: FakeSlack, synced: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await say(doppel, "train <@U2>", user="U1")
    asked = direct_messages(slack, "U2")[0]
    await press(doppel, DECLINE, value_of(asked, DECLINE), "U2", asked)
    await doppel.until(lambda: actions(synced, "U2") == [ConsentAction.DECLINE])
    assert not has_consent(synced.consent_records())
    monkeypatch.setattr(consenting, "VALID_SECONDS", 0)
    await say(doppel, "train <@U1>", user="U2")
    asked = direct_messages(slack, "U1")[0]
    await press(doppel, AGREE, value_of(asked, AGREE), "U1", asked)
    await doppel.until(lambda: "expired" in str(direct_messages(slack, "U1")[0]["blocks"]))
    assert actions(synced, "U1") == []
    assert [job.kind for job in doppel.jobs() if job.kind == "train"] == []


async def test_who_said_no_is_not_asked_again_by_others(doppel: Listening, slack: FakeSlack, synced: Archive) -> None:
    await say(doppel, "train <@U2>", user="U1")
    asked = direct_messages(slack, "U2")[0]
    await press(doppel, DECLINE, value_of(asked, DECLINE), "U2", asked)
    await doppel.until(lambda: actions(synced, "U2") == [ConsentAction.DECLINE])
    assert "said no; only they can change that" in await say(doppel, "train <@U2>", user="U1")
    assert len(direct_messages(slack, "U2")) == 1
    assert "in a direct message" in await say(doppel, "train <@U2>", user="U2")


async def test_one_person_has_only_so_many_asked_who_have_not_answered(
    doppel: Listening, slack: FakeSlack, synced: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doppel.bot.commands.MAX_REQUESTS", 1)
    assert "in a direct message" in await say(doppel, "train <@U1>", user="U2")
    assert "1 people whom you asked have not answered" in await say(doppel, "train <@U2>", user="U2")
    assert "in a direct message" in await say(doppel, "train <@U2>", user="U1")
    (gone,) = direct_messages(slack, "U1")
    slack.workspace.delete(gone["channel"], gone["ts"])
    assert "was asked already" in await say(doppel, "train <@U2>", user="U2")


async def test_guests_train_nobody_and_strangers_are_told_to_wait(doppel: Listening) -> None:
    assert await say(doppel, "train <@U1>", user="U4") == "Guests can't ask for a training."
    assert "does not know that person" in await say(doppel, "train <@U9>", user="U2")
    assert "Say whom" in await say(doppel, "train", user="U2")
    assert await say(doppel, "status", user="U4") == "Guests can't see what I am doing."


async def test_who_administers_another_workspace_is_no_admin_here(doppel: Listening, slack: FakeSlack) -> None:
    elsewhere: list[Json] = [
        {"team_id": "T0CLIENT01"},
        {"team_id": "", "profile": {"team": ""}},
        {"team_id": "E0ORG", "enterprise_user": {"teams": ["T0CLIENT01"]}},
        {"team_id": TEAM, "is_stranger": True},
    ]
    for number, changes in enumerate(elsewhere):
        user = slack.workspace.user("sam", id=f"U0SAM{number}", is_admin=True)
        slack.workspace.update_user(user, **changes)
        assert await say(doppel, "reindex", user=user) == "Only admins of this workspace may do that."


async def test_a_doppelganger_rests_while_its_person_says_so(doppel: Listening, synced: Archive) -> None:
    synced.record_consent(synced.find_user("U1"), ConsentAction.GRANT, "tests")
    assert "rests" in await say(doppel, "pause", user="U1")
    assert is_paused(synced.consent_records())
    assert "answers again" in await say(doppel, "pause", user="U1")
    assert not is_paused(synced.consent_records())


async def test_somebody_is_forgotten_by_their_own_word_only(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    await say(doppel, "ask as <@U1> why Kafka?")
    await doppel.until(lambda: not synced.bot(TEAM).open_questions())
    await doppel.settle()
    synced.record_consent(synced.find_user("U1"), ConsentAction.GRANT, "tests")
    for words in ("forget", "forget <@U1>", "forget everything"):
        assert await say(doppel, words) == FORGET_HELP
    assert actions(synced, "U1") == [ConsentAction.GRANT]
    receipt = await say(doppel, "forget me", user="U1")
    assert "0 versions of the adapter, 1 answers, 0 votes on answers, 0 drafts, 0 open questions." in receipt
    assert synced.find_user("U1").name == "ada"
    receipt = await say(doppel, "forget me and my messages", user="U1")
    assert "2 messages" in receipt
    assert synced.find_user("U1").name == FORGOTTEN_NAME
    records = synced.consent_records(synced.find_user("U1"))
    assert [(r.action, r.by) for r in records][1:] == [(ConsentAction.FORGET, "slack:U1")] * 2
    slack.workspace.emit({"type": "app_home_opened", "user": "U1", "channel": "D1", "tab": "home"})
    await doppel.until(lambda: "you were forgotten" in str(slack.homes.get("U1", "")))
    sync(slack, synced)
    assert not [message for message in synced.messages() if message.user == "U1" and "Kafka" in message.text]
    await press(doppel, AGREE, "U1", "U1")
    await doppel.until(lambda: has_consent(synced.consent_records(synced.find_user("U1"))))


async def test_what_was_forgotten_is_taken_out_of_the_index_by_a_job(doppel: Listening) -> None:
    index = doppel.run.index()
    with index.writer() as writer:
        writer.publish(writer.draft(), {"revision": 0})
    receipt = await say(doppel, "forget me and my messages", user="U1")
    (job,) = [job for job in doppel.jobs() if job.kind == "reindex"]
    assert job.id in receipt
    assert job.arguments == ["--revision", str(doppel.archive.clean_revision())]


async def test_the_app_home_tells_and_changes_ones_own_consent_only(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    def home() -> str:
        return str(slack.homes.get("U1", ""))

    slack.workspace.emit({"type": "app_home_opened", "user": "U1", "channel": "D1", "tab": "home"})
    await doppel.until(lambda: "nobody has asked you" in home())
    assert view_faults({name: slack.homes["U1"][name] for name in ("type", "blocks")}) == []
    assert "1 message of ada in #general" in home()
    await press(doppel, AGREE, "U1", "U2")
    await press(doppel, AGREE, "U1", "U1")
    await doppel.until(lambda: "you agreed" in home())
    assert [(r.user_id, r.action) for r in synced.consent_records()] == [("U1", ConsentAction.GRANT)]
    await press(doppel, WITHDRAW, "U1", "U2")
    assert has_consent(synced.consent_records())
    await press(doppel, WITHDRAW, "U1", "U1")
    await doppel.until(lambda: "you withdrew" in home())
    assert not has_consent(synced.consent_records())


def publish(doppel: Listening) -> str:
    """A new version of Ada's adapter; returns the name by which vLLM knows it."""
    person = doppel.archive.find_user("U1")
    doppel.archive.record_consent(person, ConsentAction.GRANT, "tests")
    with doppel.run.adapters().folder(person).writer() as writer:
        return adapter_name(person, writer.publish(writer.draft(), {"base_model": "m", "channels": []}).name)


async def test_an_adapter_that_was_withdrawn_or_forgotten_leaves_the_running_server(doppel: Listening) -> None:
    with FakeModelServer() as server:
        told = doppel.run.settings.run_dir / "vllm.json"
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(json.dumps(asdict(server.endpoint)))
        gone = [publish(doppel)]
        assert "1 versions of your adapter are deleted" in await say(doppel, "consent withdraw", user="U1")
        assert server.unloaded == gone
        gone.append(publish(doppel))
        await press(doppel, WITHDRAW, "U1", "U1")
        await doppel.until(lambda: server.unloaded == gone)
        gone.append(publish(doppel))
        await say(doppel, "forget me", user="U1")
        assert server.unloaded == gone
    assert doppel.run.adapters().folder(doppel.archive.find_user("U1")).names() == []


async def test_who_has_no_doppelganger_is_told_so(doppel: Listening, synced: Archive) -> None:
    told = "You have no doppelganger, so there is nothing to pause: nobody is answered as you."
    assert await say(doppel, "pause", user="U1") == told
    assert synced.consent_records() == []
    synced.record_consent(synced.find_user("U1"), ConsentAction.GRANT, "tests")
    synced.record_consent(synced.find_user("U1"), ConsentAction.REVOKE, "tests")
    assert await say(doppel, "pause", user="U1") == told


async def test_who_never_agreed_has_nothing_to_withdraw_and_may_still_be_asked(
    doppel: Listening, synced: Archive
) -> None:
    told = "You have no doppelganger, so there is nothing to withdraw: nobody is answered as you."
    assert await say(doppel, "consent withdraw", user="U1") == told
    assert synced.consent_records() == []
    assert "in a direct message" in await say(doppel, "train <@U1>", user="U2")


async def test_who_is_deactivated_is_asked_once_they_are_back(doppel: Listening, slack: FakeSlack) -> None:
    for deleted, told in ((True, "ada is deactivated in Slack, so nobody can ask them."), (False, "I asked")):
        slack.workspace.update_user("U1", deleted=deleted)
        await doppel.until(lambda deleted=deleted: doppel.archive.get_user(TEAM, "U1").deleted == deleted)
        assert (await say(doppel, "train <@U1>", user="U2")).startswith(told)


async def test_who_was_asked_in_a_message_that_is_gone_is_asked_again(doppel: Listening, slack: FakeSlack) -> None:
    assert "in a direct message" in await say(doppel, "train <@U1>", user="U2")
    (first,) = direct_messages(slack, "U1")
    slack.workspace.delete(first["channel"], first["ts"])
    assert "in a direct message" in await say(doppel, "train <@U1>", user="U2")
    (again,) = direct_messages(slack, "U1")
    assert value_of(again, AGREE) != value_of(first, AGREE)
    assert "was asked already" in await say(doppel, "train <@U1>", user="U2")
    await press(doppel, AGREE, value_of(first, AGREE), "U1", again)
    assert actions(doppel.archive, "U1") == []

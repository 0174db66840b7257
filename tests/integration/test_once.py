"""What somebody does in Slack is done once: however often Slack or a thief of its requests sends it, and wherever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doppel.access import ConsentAction, has_consent
from doppel.archive import Archive, deliveries
from doppel.archive.deliveries import KEPT, LEASE
from doppel.bot.consenting import Consenting
from doppel.bot.receiving import Receiver
from doppel.errors import StorageError
from doppel.ingest import open_archive
from doppel.slack.blocks import FEEDBACK
from doppel.slack.consent_blocks import AGREE, WITHDRAW
from doppel.slack.draft_blocks import SEND, SHORTCUT
from tests.block_kit import elements
from tests.fakes.engine import FakeEngine
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import ADA, Listening, listening

pytestmark = pytest.mark.usefixtures("ada_agreed")


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    made.user("ada", "Ada Lovelace", id="U1")
    made.user("grace", "Grace Hopper", id="U2")
    made.channel("general", "U1", "U2", id="C1")
    made.post("C1", "U2", "Why did we drop Kafka?")
    return made


@pytest.fixture
def time_scale() -> float:
    return 1


def pressed(slack: FakeSlack, action: str, value: str, **given: Any) -> Json:
    return slack.payloads.block_action(action, value, user="U1", channel="C1", **given)


def home(slack: FakeSlack, action: str) -> Json:
    ts = next(iter(slack.workspace.find("C1").log))["ts"]
    return pressed(slack, action, "U1", ts=ts) | {"view": {"type": "home"}}


def actions(archive: Archive) -> list[ConsentAction]:
    return [record.action for record in archive.consent_records()][1:]


async def quiet(doppel: Listening, known: int) -> None:
    """Wait until so many things were done and are known as such, and whatever else may be under way."""

    def done() -> bool:
        with doppel.archive._engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT until FROM deliveries").scalars().all()
        return len(rows) == known

    await doppel.until(done)
    await asyncio.sleep(0.3)


async def test_a_command_that_comes_again_counts_once_and_a_new_one_counts(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    await doppel.command("pause")
    await doppel.until(lambda: actions(synced) == [ConsentAction.PAUSE])
    for _ in range(3):
        await doppel.replay()
    await quiet(doppel, 1)
    assert actions(synced) == [ConsentAction.PAUSE]
    assert len(slack.responses.said) == 1
    await doppel.command("pause")
    await doppel.until(lambda: actions(synced) == [ConsentAction.PAUSE, ConsentAction.RESUME])


async def test_what_comes_many_times_at_once_is_done_once(slack: FakeSlack, synced: Archive, tmp_path: Path) -> None:
    async with listening(slack, synced, tmp_path, "http", FakeEngine([ADA])) as doppel:
        await doppel.command("pause")
        await asyncio.gather(*(doppel.replay() for _ in range(8)))
        await quiet(doppel, 1)
    assert actions(synced) == [ConsentAction.PAUSE]


async def test_a_yes_that_comes_again_does_not_undo_a_no(doppel: Listening, slack: FakeSlack, synced: Archive) -> None:
    agreed = home(slack, AGREE)
    await doppel.act(home(slack, WITHDRAW))
    await doppel.until(lambda: actions(synced) == [ConsentAction.REVOKE])
    await doppel.act(agreed)
    await doppel.until(lambda: has_consent(synced.consent_records()))
    await doppel.act(home(slack, WITHDRAW))
    await doppel.until(lambda: not has_consent(synced.consent_records()))
    # Signed anew, as Slack would do it.
    await doppel.act(agreed)
    await quiet(doppel, 3)
    assert not has_consent(synced.consent_records())
    await doppel.act(home(slack, AGREE))
    await doppel.until(lambda: has_consent(synced.consent_records()))


async def test_a_vote_a_shortcut_and_a_sent_draft_that_come_again_are_done_once(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    root = slack.workspace.post("C1", "U1", f"<@{BOT}> why?")
    await doppel.answered("C1", root)
    (told,) = synced.bot(TEAM).answers("C1", root)
    vote = pressed(slack, FEEDBACK, f"like:{told.id}", ts=root, kind="feedback_buttons")
    asked = next(iter(slack.workspace.find("C1").log))["ts"]
    menu = slack.payloads.message_shortcut(SHORTCUT, user="U1", channel="C1", ts=asked)

    def drafts() -> list[Json]:
        return [raw for raw in slack.ephemerals if elements(raw.get("blocks", []), "button")]

    def posted() -> list[Json]:
        return [raw for raw in slack.workspace.find("C1").log if raw.get("bot_id") and "Drafted" in str(raw)]

    steps: list[tuple[Callable[[], Json], Callable[[], list[Any]]]] = [
        (lambda: vote, synced.feedback),
        (lambda: menu, drafts),
        (lambda: pressed(slack, SEND, elements(drafts()[0]["blocks"], "button")[0]["value"], ts=asked), posted),
    ]
    for number, (act, outcome) in enumerate(steps, 1):
        await doppel.act(act())
        await doppel.until(outcome)
        await doppel.replay()
        await quiet(doppel, number)
        assert len(outcome()) == 1


async def test_it_is_known_after_a_restart_and_by_another_process(
    slack: FakeSlack, synced: Archive, tmp_path: Path
) -> None:
    async with listening(slack, synced, tmp_path / "one", "http", FakeEngine([ADA])) as first:
        assert first.http is not None
        await first.command("pause")
        await quiet(first, 1)
        async with listening(slack, synced, tmp_path / "two", "http", FakeEngine([ADA])) as other:
            assert other.http is not None
            other.http._last = first.http._last
            await other.replay()
            await quiet(other, 1)
        last = first.http._last
    async with listening(slack, synced, tmp_path / "one", "http", FakeEngine([ADA])) as again:
        assert again.http is not None
        again.http._last = last
        await again.replay()
        await quiet(again, 1)
    assert actions(synced) == [ConsentAction.PAUSE]


async def test_what_failed_half_way_is_done_when_it_comes_again(
    doppel: Listening, slack: FakeSlack, synced: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, broken = Consenting.withdraw, asyncio.Event()

    async def fail(self: Consenting, user_id: str) -> int:
        broken.set()
        raise RuntimeError("Something that nobody foresaw.")

    monkeypatch.setattr(Consenting, "withdraw", fail)
    given = slack.payloads.slash_command("/doppel", "consent withdraw", user="U1", channel="C1")
    # Whether it is acknowledged before it fails is left open.
    if doppel.http:
        await asyncio.to_thread(doppel.http.command, given)
    else:
        slack.sockets.send("slash_commands", given)
    async with asyncio.timeout(20):
        await broken.wait()
    await quiet(doppel, 0)
    monkeypatch.setattr(Consenting, "withdraw", works)
    await doppel.replay()
    await doppel.until(lambda: actions(synced) == [ConsentAction.REVOKE])


async def test_where_it_can_t_be_noted_nothing_is_done_and_whoever_typed_is_told(
    doppel: Listening, slack: FakeSlack, synced: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise StorageError("The disk is full; free some space.")

    with monkeypatch.context() as patched:
        patched.setattr(deliveries.Deliveries, "begin", full)
        await doppel.command("pause")
        await doppel.until(lambda: slack.responses.said)
    assert "The disk is full" in slack.responses.said[0]["text"]
    assert actions(synced) == []
    await doppel.replay()
    await doppel.until(lambda: actions(synced) == [ConsentAction.PAUSE])


async def test_what_is_still_being_done_is_not_begun_again_however_long_it_takes(synced: Archive) -> None:
    receiver = Receiver.__new__(Receiver)
    receiver._deliveries, receiver._under_way = synced.deliveries(TEAM), set()
    async with receiver.once("x") as first:
        synced.deliveries(TEAM).give_up("x")
        async with receiver.once("x") as second:
            assert (first, second) == (True, False)


def test_a_right_that_nobody_used_lapses_and_what_was_done_is_known_until_no_signature_is_valid(
    where: Path | str,
) -> None:
    with open_archive(where) as archive, open_archive(where) as other:
        one, two = archive.deliveries("T1"), other.deliveries("T1")
        assert one.begin("a", 1000)
        assert not two.begin("a", 1000 + LEASE - 1)
        assert archive.deliveries("T2").begin("a", 1000)
        assert two.begin("a", 1000 + LEASE)
        two.finish("a", 2000)
        assert not one.begin("a", 2000 + KEPT - 1)
        assert KEPT >= 2 * 300 * 1_000_000
        one.give_up("b")
        assert one.begin("b", 3000)
        one.give_up("b")
        assert two.begin("b", 3000)
        assert one.begin("c", 2000 + KEPT + LEASE)
        with archive._engine.connect() as connection:
            kept = connection.exec_driver_sql("SELECT id FROM deliveries WHERE team = 'T1'").scalars().all()
        assert list(kept) == ["c"]

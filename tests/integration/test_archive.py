"""The archive: importing again and again, and what can be asked of it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from doppel.access import ConsentAction, has_consent
from doppel.archive import Archive, Counts, backend, database, tables
from doppel.engine.conversation import conversations
from doppel.errors import BusyError, UnknownUserError
from doppel.ingest import ImportReport, open_archive
from doppel.records import Channel, ChannelKind, Message, MessageKind, User
from indexing.chunk import chunk
from tests.fakes.export_builder import ExportBuilder, small_team
from tests.taking_in import take_in


def outcome(report: ImportReport) -> tuple[int, int, int]:
    return report.added, report.updated, report.unchanged


def texts(archive: Archive) -> list[str]:
    return [message.text for message in archive.messages()]


def row(archive: Archive, ts: str) -> dict[str, object]:
    with database.reading(archive._engine, archive.backend) as connection:
        found = connection.execute(select(tables.messages).where(tables.messages.c.ts == ts)).one()
    return dict(found._mapping)


def state(archive: Archive) -> tuple[list[User], list[Channel], list[Message]]:
    return archive.users(), archive.channels(), list(archive.messages())


def one_message(text: str = "first", ts: str = "1700000000.1", **more: Any) -> ExportBuilder:
    return small_team_lists().say("general", ts, text, **more)


def small_team_lists() -> ExportBuilder:
    return ExportBuilder().user("U1", "ada", "Ada Lovelace", "Ada").user("U2", "grace").channel("C1", "general", "U1")


def test_everything_is_taken_in(archive: Archive) -> None:
    report = take_in(archive, small_team().put("general/2024-01-01.json", "["))
    assert (report.messages, *outcome(report)) == (7, 7, 0, 0)
    assert (report.users, report.channels, report.threads) == (4, 2, 1)
    assert report.skipped == {"broken day file": 1}
    assert archive.counts() == Counts(messages=7, threads=1, users=4, channels=2)
    first, *_, last = archive.messages()
    assert first == Message(
        team="T1",
        channel="C1",
        ts="1700000000.000100",
        author="Ada",
        text="Why did we drop Kafka, @Grace Hopper?",
        kind=MessageKind.HUMAN,
        user="U1",
        thread_ts="1700000000.000100",
    )
    assert (last.channel, last.text) == ("G1", "The budget is cut.")


def test_importing_again_changes_nothing(archive: Archive) -> None:
    take_in(archive, small_team())
    before = state(archive)
    assert outcome(take_in(archive, small_team())) == (0, 0, 7)
    assert state(archive) == before


def test_raw_json_is_kept_as_it_came(archive: Archive) -> None:
    raw: dict[str, Any] = {
        "reactions": [{"name": "tada", "count": 2}],
        "thread_ts": "1700000000.1",
        "x": "größe \u2028 <&>",
    }
    take_in(archive, one_message("hi", **raw))
    stored = json.loads(str(row(archive, "1700000000.1")["raw"]))
    assert stored == {"type": "message", "ts": "1700000000.1", "text": "hi", "user": "U1", **raw}


def test_a_later_export_adds_and_updates_and_an_older_one_does_not_undo(archive: Archive) -> None:
    early = one_message("first").say("general", "1700000001.1", "second")
    late = (
        one_message("first, edited", edited={"user": "U1", "ts": "1700000005.0"})
        .say("general", "1700000001.1", "second", reactions=[{"name": "+1", "count": 1}])
        .say("general", "1700000009.1", "third")
    )
    take_in(archive, early)
    assert outcome(take_in(archive, late)) == (1, 2, 0)
    after = state(archive)
    assert texts(archive) == ["first, edited", "second", "third"]
    assert "reactions" in str(row(archive, "1700000001.1")["raw"])
    assert outcome(take_in(archive, early)) == (0, 0, 2)
    assert state(archive) == after
    assert "reactions" in str(row(archive, "1700000001.1")["raw"])


def test_what_a_later_export_saw_unchanged_an_older_one_does_not_change(archive: Archive) -> None:
    plain, liked = one_message(), one_message(reactions=[{"name": "+1", "count": 1}])
    take_in(archive, plain)
    take_in(archive, plain.say("general", "1700000009.1", "latest"))
    assert outcome(take_in(archive, liked.say("general", "1700000005.1", "between"))) == (1, 0, 1)
    assert "reactions" not in str(row(archive, "1700000000.1")["raw"])


def test_an_edit_counts_even_from_an_export_of_the_same_moment(archive: Archive) -> None:
    take_in(archive, one_message("first"))
    take_in(archive, one_message("edited", edited={"ts": "1700000003.0"}))
    take_in(archive, one_message("first"))
    assert texts(archive) == ["edited"]


def test_what_a_later_export_lacks_stays(archive: Archive) -> None:
    take_in(archive, one_message("first"))
    report = take_in(archive, one_message("second", "1700000009.1"))
    assert texts(archive) == ["first", "second"]
    assert report.messages == 2


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_deletion_removes_the_text_for_good(archive: Archive, order: tuple[int, ...]) -> None:
    exports = [
        one_message("secret", thread_ts="1700000000.1"),
        one_message("secret!", thread_ts="1700000000.1", edited={"ts": "1700000008.0"}),
        one_message("This message was deleted.", thread_ts="1700000000.1", subtype="tombstone"),
    ]
    for number, export in enumerate(exports):
        export.say("general", f"170000001{number}.1", "later")
    for i in order:
        take_in(archive, exports[i])
    assert row(archive, "1700000000.1")["text"] == ""
    assert "secret" not in str(row(archive, "1700000000.1")["raw"])


def test_a_message_that_is_there_twice_counts_once(archive: Archive) -> None:
    twice = one_message("first").say("general", "1700000000.1", "edited", edited={"ts": "1700000003.0"})
    assert take_in(archive, twice).skipped == {"duplicate": 1}
    assert texts(archive) == ["edited"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_channel_that_is_listed_only_at_times_is_one(archive: Archive, order: tuple[int, ...]) -> None:
    listed, unlisted, later = (small_team_lists() for _ in range(3))
    listed.channel("C2", "outreach").say("outreach", "1700000000.1", "one").say("outreach", "1700000001.1", "two")
    unlisted.say("outreach", "1700000001.1", "two").say("outreach", "1700000002.1", "three")
    later.say("outreach", "1700000003.1", "four")
    for i in order:
        take_in(archive, (listed, unlisted, later)[i])
    assert [(c.id, c.kind) for c in archive.channels() if c.name == "outreach"] == [("C2", ChannelKind.UNKNOWN)]
    assert [(m.channel, m.text) for m in archive.messages()] == [("C2", t) for t in ("one", "two", "three", "four")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_newest_export_says_who_may_read_a_channel(archive: Archive, order: tuple[int, ...]) -> None:
    listed, unlisted, listed_again = (small_team_lists() for _ in range(3))
    listed.channel("C2", "outreach").say("outreach", "1700000000.1", "one")
    unlisted.say("outreach", "1700000001.1", "two")
    listed_again.channel("C2", "outreach").say("outreach", "1700000002.1", "three")
    for i in order:
        take_in(archive, (listed, unlisted, listed_again)[i])
    assert [(c.id, c.kind) for c in archive.channels() if c.name == "outreach"] == [("C2", ChannelKind.PUBLIC)]


def test_a_renamed_channel_keeps_its_id_and_mentions_follow(archive: Archive) -> None:
    take_in(archive, one_message("see <#C1|general>"))
    renamed = ExportBuilder().user("U1", "ada").channel("C1", "lobby").say("lobby", "1700000009.1", "new")
    take_in(archive, renamed)
    assert [channel.name for channel in archive.channels()] == ["lobby"]
    assert texts(archive) == ["see #lobby", "new"]
    take_in(archive, one_message("see <#C1|general>"))
    assert [channel.name for channel in archive.channels()] == ["lobby"]


def test_the_name_of_a_private_channel_is_read_in_that_channel_alone(archive: Archive) -> None:
    mention = "see <#G1|secret> and <#C1|general>"
    team = small_team_lists().channel("G1", "secret", "U1", list_="groups")
    take_in(archive, team.say("general", "1700000000.1", mention).say("secret", "1700000001.1", mention))
    assert texts(archive) == ["see #private-channel and #general", "see #secret and #general"]
    opened = small_team_lists().channel("G1", "secret", "U1", is_private=False).say("general", "1700000009.1", "new")
    take_in(archive, opened)
    assert texts(archive) == ["see #secret and #general", "new", "see #secret and #general"]


def test_a_new_name_of_a_person_shows_in_old_messages(archive: Archive) -> None:
    take_in(archive, one_message("thanks <@U2>, says <@U1>"))
    later = ExportBuilder().user("U1", "ada", display_name="Countess").user("U2", "grace", "Grace Hopper")
    take_in(archive, later.channel("C1", "general").say("general", "1700000009.1", "new"))
    first, _ = archive.messages()
    assert (first.author, first.text) == ("Countess", "thanks @Grace Hopper, says @Countess")


def test_who_turns_out_to_be_a_bot_no_longer_speaks_as_a_person(archive: Archive) -> None:
    take_in(archive, one_message("beep", user="U2"))
    later = ExportBuilder().user("U2", "grace", is_bot=True).channel("C1", "general")
    take_in(archive, later.say("general", "1700000009.1", "new"))
    assert [message.kind for message in archive.messages()] == [MessageKind.BOT, MessageKind.HUMAN]


def test_without_users_json_ids_are_names_until_it_comes(archive: Archive) -> None:
    report = take_in(archive, small_team().without("users"))
    assert report.skipped == {"users.json missing": 1}
    first, second, *_ = archive.messages()
    assert (first.author, first.text) == ("U1", "Why did we drop Kafka, @U2?")
    assert second.author == "U2"
    assert outcome(take_in(archive, small_team())) == (0, 0, 7)
    first, *_ = archive.messages()
    assert (first.team, first.author, first.text) == ("T1", "Ada", "Why did we drop Kafka, @Grace Hopper?")
    assert archive.counts() == Counts(messages=7, threads=1, users=4, channels=2)
    assert outcome(take_in(archive, small_team().without("users"))) == (0, 0, 7)
    assert archive.counts().messages == 7


def test_guests_go_by_the_name_in_their_messages(archive: Archive) -> None:
    profile = {"display_name": "Linus", "real_name": "Linus T", "name": "linus"}
    builder = one_message("hello", user="UGUEST", user_profile=profile).say("general", "1699999999.1", "hi <@UGUEST>")
    take_in(archive, builder)
    assert [message.author for message in archive.messages()] == ["Ada", "Linus"]
    assert texts(archive) == ["hi @Linus", "hello"]
    assert archive.find_user("linus").id == "UGUEST"


def test_bots_go_by_the_name_they_post_under(archive: Archive) -> None:
    builder = one_message("built", user=None, subtype="bot_message", username="CI", bot_id="B1")
    take_in(archive, builder.say("general", "1700000001.1", "x", "U9", bot_id="B2", bot_profile={"name": "GitHub"}))
    assert [message.author for message in archive.messages()] == ["CI", "GitHub"]


def test_direct_conversations_are_named_after_their_members(archive: Archive) -> None:
    builder = small_team_lists().channel("D1", "", "U1", "U2", list_="dms").say("D1", "1700000000.1", "psst")
    take_in(archive, builder)
    assert {channel.id: channel.name for channel in archive.channels()} == {"C1": "general", "D1": "Ada and grace"}


def test_two_workspaces_stay_apart(archive: Archive) -> None:
    take_in(archive, one_message("first"))
    other = ExportBuilder("T2").user("U1", "eve").channel("C1", "general").say("general", "1700000000.1", "theirs")
    report = take_in(archive, other)
    assert (report.messages, report.added) == (2, 1)
    assert [(m.team, m.author, m.text) for m in archive.messages()] == [("T1", "Ada", "first"), ("T2", "eve", "theirs")]
    assert [m.text for m in archive.messages({("T2", "C1")})] == ["theirs"]
    with pytest.raises(UnknownUserError):
        archive.find_user("U1")


def test_messages_come_channel_by_channel_in_the_order_of_time(archive: Archive) -> None:
    builder = small_team_lists().channel("C2", "random")
    for ts in ("1700000000.10", "999999999.1", "1700000000.2", "1700000000.000003"):
        builder.say("general", ts, ts).say("random", ts, ts)
    take_in(archive, builder)
    in_order = ["999999999.1", "1700000000.000003", "1700000000.10", "1700000000.2"]
    assert [(m.channel, m.ts) for m in archive.messages()] == [(c, ts) for c in ("C1", "C2") for ts in in_order]
    assert [m.ts for m in archive.messages([("T1", "C2")])] == in_order
    assert list(archive.messages([])) == []


def test_a_conversation_is_found_again_as_it_was(archive: Archive) -> None:
    builder = small_team()
    builder.say("general", "1700000105.1", "aside", thread_ts="1700000100.000100")
    builder.say("general", "1700000161.1", "bot aside", "U9", thread_ts="1700000160.000100")
    builder.say("general", "1700003000.1", "late reply", thread_ts="1700000000.000100")
    for i in range(50):
        builder.say("general", f"17000500{i:02}.1", f"line {i}")
    take_in(archive, builder)
    found = list(conversations(archive.messages()))
    assert len(found) > 4
    for c in found:
        assert archive.conversation(c.team, c.channel, c.thread_ts, c.first_ts, c.last_ts) == c
    assert archive.conversation("T1", "C404", None, "1.0", "2.0").messages == ()
    assert archive.conversation("T1", "C1", "5.0", "1.0", "2.0").messages == ()


def test_a_persons_newest_messages(archive: Archive) -> None:
    take_in(archive, small_team())
    assert [m.text for m in archive.messages_of("T1", "U2")] == ["The budget is cut.", "Yes.", "It woke us at night."]
    assert [m.text for m in archive.messages_of("T1", "U2", limit=1, channels={("T1", "C1")})] == ["Yes."]
    assert archive.messages_of("T1", "U9") == []


def test_how_much_a_person_wrote_in_each_channel(archive: Archive) -> None:
    builder = small_team().say("general", "1700000170.1", "", "U2").say("general", "1700000171.1", "Beep.", "U9")
    take_in(archive, builder)
    for person in ("U1", "U2", "U9", "U404"):
        said = [message.channel for message in archive.messages_of("T1", person)]
        assert archive.message_counts("T1", person) == Counter(said)
    assert archive.message_counts("T1", "U2") == {"C1": 2, "G1": 1}
    assert archive.message_counts("T2", "U2") == {}


def test_permalinks(where: Path | str) -> None:
    builder = small_team().say("general", "1700000300.1", "", files=[{"permalink": "https://acme.slack.com/files/1"}])
    with open_archive(where) as archive:
        assert archive.permalink(("T1", "C1"), "1700000000.0001") == ("https://slack.com/archives/C1/p1700000000000100")
        take_in(archive, builder)
        assert archive.permalink(("T1", "C1"), "1700000060.000100", "1700000000.000100") == (
            "https://acme.slack.com/archives/C1/p1700000060000100?thread_ts=1700000000.000100&cid=C1"
        )
        assert archive.permalink(("T1", "C1"), "1700000000.000100", "1700000000.000100") == (
            "https://acme.slack.com/archives/C1/p1700000000000100"
        )
    with open_archive(where, workspace_url="https://acme.example.org/") as archive:
        assert archive.permalink(("T1", "C1"), "1.5") == "https://acme.example.org/archives/C1/p1500000"


@pytest.mark.parametrize("name", ["U1", "ada", "@ada", "ADA", "Ada Lovelace", "ada lovelace", " Ada "])
def test_a_person_is_found_by_any_name(archive: Archive, name: str) -> None:
    take_in(archive, small_team())
    assert archive.find_user(name).id == "U1"


def test_an_unknown_name_lists_the_nearest(archive: Archive) -> None:
    with pytest.raises(UnknownUserError, match="import a Slack export first"):
        archive.find_user("ada")
    take_in(archive, small_team())
    with pytest.raises(UnknownUserError, match=r'Nobody is called "Grase"; the nearest is Grace Hopper \(@grace, U2\)'):
        archive.find_user("Grase")
    for nobody in ("zzzzzz", "", "@"):
        with pytest.raises(UnknownUserError, match="Nobody is called"):
            archive.find_user(nobody)


def test_a_name_of_several_lists_them_all(archive: Archive) -> None:
    builder = small_team_lists().user("U3", "sam", "Sam Lee").user("U4", "sam2", "Sam Lee")
    builder.user("U5", "old-ada", display_name="Ada", deleted=True)
    take_in(archive, builder)
    with pytest.raises(
        UnknownUserError, match=r"Sam Lee \(@sam, U3\), Sam Lee \(@sam2, U4\); give the handle with its @, or the id"
    ):
        archive.find_user("sam lee")
    assert archive.find_user("sam").id == "U3"
    with pytest.raises(UnknownUserError, match=r"Ada \(@ada, U1\), Ada \(@old-ada, U5\)"):
        archive.find_user("Ada")
    assert archive.find_user("@ada").id == "U1"


def test_the_consent_ledger_only_grows(archive: Archive) -> None:
    ada, grace = (User("T1", id_, name) for id_, name in (("U1", "ada"), ("U2", "grace")))
    granted = archive.record_consent(ada, ConsentAction.GRANT, by="root")
    revoked = archive.record_consent(ada, ConsentAction.REVOKE, by="ada")
    other = archive.record_consent(grace, ConsentAction.GRANT, by="root")
    assert archive.consent_records() == [granted, revoked, other]
    assert archive.consent_records(ada) == [granted, revoked]
    assert not has_consent(archive.consent_records(ada))
    assert has_consent(archive.consent_records(grace))
    assert granted.at.endswith("+00:00")


def test_feedback_is_kept(archive: Archive) -> None:
    one = archive.add_feedback(
        "T1", "U1", version="v0001-aaaaaaaa", question="why?", reply="because", sources=["https://x"], liked=True
    )
    two = archive.add_feedback("T1", "U1", version=None, question="q", reply="r", comment="too short")
    assert archive.feedback() == [one, two]
    assert (one.sources, one.liked, two.liked, two.comment) == (("https://x",), True, None, "too short")


def test_threads_may_read_and_write_at_once(archive: Archive) -> None:
    take_in(archive, small_team())
    ada, start = archive.find_user("ada"), threading.Barrier(8)

    def use(number: int) -> int:
        start.wait()
        archive.record_consent(ada, ConsentAction.GRANT, by=str(number))
        archive.add_feedback("T1", "U1", version=None, question=str(number), reply="r")
        return len(list(archive.messages()))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(8))) == [7] * 8
    assert len(archive.consent_records(ada)) == len(archive.feedback()) == 8


def test_threads_that_write_take_turns_without_sqlite_s_waiting(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive.db") as archive:
        archive._engine.dispose()
        event.listen(archive._engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
        store = archive.bot("T1")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: store.set_default_persona("U1", "C1", str(number)), range(80)))
        assert store.default_persona("C1", "79") == "U1"


def test_a_reader_sees_one_state_while_an_import_goes_on(archive: Archive) -> None:
    take_in(archive, small_team())
    reader = archive.messages()
    next(reader)
    take_in(archive, small_team().say("secret", "1700090001.1", "more"))
    assert len(list(reader)) == 6
    assert len(list(archive.messages())) == 8


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "archive.db"
    with open_archive(path) as archive:
        take_in(archive, small_team())
        files = [file for file in path.parent.iterdir() if file.name.startswith("archive.db")]
        assert len(files) > 1
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_revision_grows_with_every_change_and_only_then(archive: Archive) -> None:
    assert archive.revision() == 0
    take_in(archive, small_team())
    first = archive.revision()
    take_in(archive, small_team())
    assert archive.revision() == first > 0
    take_in(archive, small_team().say("general", "1800000000.1", "Later."))
    assert archive.revision() > first


def test_text_that_sorts_does_so_by_its_bytes(archive: Archive) -> None:
    names = ["zoo", "Alpha", "alpha", "_x", "état", "10", "9"]
    builder = small_team_lists()
    for number, name in enumerate(names):
        builder.channel(f"C{name.upper()}{number}", name).say(name, f"17000000{number:02}.1", name)
    take_in(archive, builder)
    assert [channel.name for channel in archive.channels()] == sorted([*names, "general"])
    ids = [channel.id for channel in archive.channels() if channel.name != "general"]
    assert [message.channel for message in archive.messages()] == sorted(ids)


def test_what_no_database_stores_is_replaced(archive: Archive) -> None:
    kept = archive.add_feedback("T1", "U1", version=None, question="a\0b", reply="\ud800", comment="\0")
    assert (kept.question, kept.reply, kept.comment) == ("a\ufffdb", "\ufffd", "\ufffd")
    assert archive.feedback() == [kept]


def test_a_writer_is_told_when_another_holds_the_archive(
    where: Path | str, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "BUSY_SECONDS", 0)
    with (
        open_archive(where) as other,
        database.writing(archive._engine, archive.backend),
        pytest.raises(BusyError, match="wait for it to end"),
    ):
        other.record_consent(User("T1", "U1", "ada"), ConsentAction.GRANT, by="root")


CONSENT = """
import sys
from pathlib import Path
from doppel.access import ConsentAction
from doppel.ingest import open_archive
from doppel.records import User

with open_archive(Path(sys.argv[1])) as archive:
    archive.record_consent(User("T1", "U1", "ada"), ConsentAction.GRANT, by="elsewhere")
    print(len(archive.consent_records()))
"""


def test_an_archive_that_is_opened_twice_stays_open_for_other_processes(tmp_path: Path) -> None:
    """Closing any other handle of a SQLite file would drop the locks by which processes know of each other."""
    path = tmp_path / "archive.db"
    with open_archive(path) as archive:
        for number in range(1, 6, 2):
            archive.record_consent(User("T1", "U1", "ada"), ConsentAction.GRANT, by="here")
            open_archive(path).close()
            elsewhere = subprocess.check_output([sys.executable, "-c", CONSENT, str(path)], text=True)
            assert int(elsewhere) == number + 1
            assert len(archive.consent_records()) == number + 1


def test_any_number_of_conversations_is_read(archive: Archive) -> None:
    builder = small_team_lists()
    for number in range(700):
        builder.say("general", f"{1_500_000_000 + 250_000 * number}.000100", f"number {number}")
    take_in(archive, builder)
    chunks = [cut for talk in conversations(archive.messages()) for cut in chunk(talk)]
    found = archive.snapshot().conversations(chunks)
    # Each takes two selects, and SQLite takes five hundred in one statement.
    assert len(chunks) > 250
    assert [f"Ada: {talk.messages[0].text}" for talk in found] == [cut.text.splitlines()[0] for cut in chunks]
    assert archive.snapshot().conversations([]) == []

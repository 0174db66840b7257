"""Copies that Slack made of a forgotten person's messages: they go however they say whose they are, and stay gone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, text, update

from doppel.archive import Archive, database, tables
from doppel.archive.forgotten import DELETED, FORGOTTEN, FORGOTTEN_NAME, Tombstones
from doppel.archive.messages import encoded, tombstone
from doppel.ingest import EventStore, open_archive
from doppel.ingest.copies import Copies
from doppel.slack.events import Deleted, Said
from doppel.timestamps import micros
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.forgetting import everything, forget
from tests.syncing import sync
from tests.taking_in import take_in

AT, LATER = "1700000000.000100", "1700000500.000100"
SECRET = "zebrafish"
SAID = f"The {SECRET} is the hint to the vault."
LINK = "https://acme.slack.com/archives/{}/p1700000000000100"


def people(team: str = "T1") -> ExportBuilder:
    return (
        ExportBuilder(team)
        .user("U1", "adal", "Ada Lovelace", "Countess")
        .user("U2", "grace", "Grace Hopper", "Grace")
        .channel("C1", "general", "U1", "U2")
        .channel("C2", "random", "U1", "U2")
    )


def original(builder: ExportBuilder) -> ExportBuilder:
    return builder.say("general", AT, SAID, "U1")


def share(**fields: Any) -> dict[str, Any]:
    return {"text": SAID, "fallback": f"[January 23rd, 2017 7:37 AM] {SAID}", "id": 1, **fields}


ATTACHED = {
    "by id": share(author_id="U1", ts=AT),
    "by channel id": share(channel_id="C1", ts=AT),
    "by channel name": share(channel_name="general", ts=AT),
    "by a number": share(channel_id="C1", ts=1700000000.0001),
    "by link": share(from_url=LINK.format("C1")),
    "by link to a name": share(from_url=LINK.format("general")),
    "by link to a former name": share(from_url=LINK.format("once-called-so")),
    "by link into a thread": share(from_url=LINK.format("C1") + "?thread_ts=1699999999.000100&cid=C1"),
    "by time alone": share(ts=AT),
    "by real name": share(author_name="Ada Lovelace", text=f"Another {SECRET}."),
    "by handle": share(author_subname="adal", text=f"Another {SECRET}."),
    "by display name in other letters": share(author_name="COUNTESS ", text=f"Another {SECRET}."),
    "by link to the profile": share(author_link="https://acme.slack.com/team/adal", text=f"Another {SECRET}."),
    "by link to the profile with an id": share(author_link="https://acme.slack.com/team/U1", text=f"An {SECRET}."),
    "by the fallback": share(
        fallback=f"[January 23rd, 2017 7:37 AM] adal: Another {SECRET}.", author_name="", text=SECRET
    ),
    "by the fallback alone": {
        "fallback": f"[January 23rd, 2017 7:37 AM] adal: Another {SECRET}.",
        "text": f"Another {SECRET}.",
    },
    "by the message's time": {"channel_id": "C1", "message_ts": AT, "text": SAID},
    "by a permalink": {"permalink": LINK.format("C1"), "text": SAID},
    "by the title's link": {"title": "Look", "title_link": LINK.format("C1"), "text": SAID},
    "by any link": {"app_unfurl_url": LINK.format("C1"), "text": SAID},
    "by a link of old": {"from_url": "https://acme.slack.com/messages/C1/p1700000000000100", "text": SAID},
    "by a link into the client": {
        "from_url": f"https://app.slack.com/client/T1/C2/thread/C1-{AT}",
        "text": SAID,
        "is_share": True,
    },
    "in blocks": {"channel_id": "C1", "ts": AT, "message_blocks": [{"message": {"blocks": [{"text": SAID}]}}]},
    "within another": {"author_id": "U2", "text": "Mine.", "attachments": [share(channel_id="C1", ts=AT)]},
}
MORE: dict[str, dict[str, Any]] = {
    "root": {"subtype": "thread_broadcast", "root": {"ts": AT, "text": SAID}, "thread_ts": AT},
    "former version": {"subtype": "message_changed", "previous_message": {"user": "U1", "ts": AT, "text": SAID}},
    "pinned item": {
        "subtype": "pinned_item",
        "item": {"type": "message", "channel": "C1", "message": {"ts": AT, "text": SAID}},
    },
    "items": {"items": [{"channel": "C1", "ts": AT, "text": SAID}]},
    "file": {"files": [{"id": "F1", "user": "U1", "title": SAID, "preview": SAID}]},
    "comment on a file": {"file": {"id": "F1", "initial_comment": {"user": "U1", "comment": SAID}}},
    "file with its time": {"files": [{"id": "F1", "user": "U1", "title": SAID, "created": 1700000000}]},
    "in rich text": {
        "blocks": [
            {
                "type": "rich_text",
                "elements": [
                    {
                        "type": "rich_text_section",
                        "elements": [{"type": "message", "channel_id": "C1", "message_ts": AT, "text": SAID}],
                    }
                ],
            }
        ]
    },
    "a huddle": {"subtype": "huddle_thread", "room": {"id": "R1", "name": f"{SECRET} huddle", "created_by": "U1"}},
    "text made of it": {"text": f"<@U2> shared a message: {SAID}", "attachments": [share(channel_id="C1", ts=AT)]},
    "text that is it": {"text": SAID, "attachments": [share(channel_id="C1", ts=AT)]},
    "shortened text": {"text": SAID[:25] + "…", "attachments": [share(channel_id="C1", ts=AT)]},
    "blocks in pieces": {
        "attachments": [share(channel_id="C1", ts=AT)],
        "blocks": [{"type": "rich_text", "elements": [{"elements": [{"text": SAID[:15]}, {"text": SAID[15:]}]}]}],
    },
}
CASES = {name: {"attachments": [attachment]} for name, attachment in ATTACHED.items()} | MORE


@pytest.mark.parametrize("more", CASES.values(), ids=CASES)
def test_a_copy_goes_from_its_row_and_comes_back_by_no_import(archive: Archive, more: dict[str, Any]) -> None:
    export = original(people()).say("random", LATER, more.get("text", "Look."), "U2", **_without_text(more))
    take_in(archive, export)
    done = forget(archive)
    assert (done.messages, done.copies) == (1, 1)
    assert SECRET not in everything(archive)
    later = export.say("random", "1700009000.000100", "Later.", "U2")
    take_in(archive, later)
    assert SECRET not in everything(archive)
    assert "Later." in [message.text for message in archive.messages()]


@pytest.mark.parametrize("more", CASES.values(), ids=CASES)
def test_a_copy_that_comes_before_what_it_copies_goes_too(archive: Archive, more: dict[str, Any]) -> None:
    """Their message was in no archive when they were forgotten; an older export brings it after the copy of it."""
    take_in(archive, people())
    forget(archive)
    copy = people().say("general", LATER, more.get("text", "Look."), "U2", **_without_text(more))
    says_where = "C1" in json.dumps(more) or "general" in json.dumps(more)
    take_in(archive, copy.say("general" if says_where else "random", AT, SAID, "U1"))
    assert SECRET not in everything(archive)


def _without_text(more: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in more.items() if key != "text"}


@pytest.mark.parametrize("named", ["<@U1>", "<@U1|adal>"])
@pytest.mark.parametrize("quotes", ["\u201c{}\u201d", '"{}"'])
def test_what_slackbot_quotes_of_them_goes(archive: Archive, named: str, quotes: str) -> None:
    told = f"{named} set up a reminder {quotes.format(SAID)} in this channel for <@U2>."
    said = {"type": "text", "text": f" set up a reminder {quotes.format(SAID)} in this channel."}
    section = {"type": "rich_text_section", "elements": [{"type": "user", "user_id": "U1"}, said]}
    blocks = [{"type": "rich_text", "elements": [section]}]
    export = original(people()).say("random", LATER, told, "USLACKBOT")
    export.say("random", "1700000600.000100", "", "USLACKBOT", blocks=blocks)
    export.say("random", "1700000700.000100", f"<@U2> set up a reminder {quotes.format('Lunch')}.", "USLACKBOT")
    take_in(archive, export)
    assert forget(archive).copies == 2
    assert SECRET not in everything(archive)
    assert "adal" not in everything(archive)
    read = [m.text for m in archive.messages() if m.text]
    assert read[0] == f"@{FORGOTTEN_NAME} set up a reminder {quotes.format('…')} in this channel for @Grace."
    assert read[2] == f"@Grace set up a reminder {quotes.format('Lunch')}."
    take_in(archive, export)
    assert SECRET not in everything(archive)


LINK_TO_HER = "https://acme.slack.com/team/U1"


def test_names_beside_a_link_to_their_profile_go(archive: Archive) -> None:
    link = {"type": "link", "url": LINK_TO_HER, "text": "@Ada Lovelace"}
    section = {"type": "rich_text_section", "elements": [link, {"type": "text", "text": " wrote that."}]}
    text = f"<{LINK_TO_HER}|@Ada Lovelace> and <https://acme.slack.com/team/U2|Grace> wrote that."
    export = people().say("random", LATER, text, "U2", blocks=[{"type": "rich_text", "elements": [section]}])
    take_in(archive, export.say("random", "1700000600.000100", "Ada Lovelace, typed.", "U2"))
    forget(archive)
    assert everything(archive).count("Lovelace") == 2  # its text, and as it came
    kept = _raw(archive, LATER)
    assert kept["text"] == f"<{LINK_TO_HER}> and <https://acme.slack.com/team/U2|Grace> wrote that."
    assert kept["blocks"][0]["elements"][0]["elements"][1]["text"] == " wrote that."


def test_a_link_that_others_typed_stays(archive: Archive) -> None:
    link = {"type": "link", "url": LINK.format("C1"), "text": "there"}
    blocks = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [link]}]}]
    take_in(archive, original(people()).say("random", LATER, f"<{LINK.format('C1')}|there>", "U2", blocks=blocks))
    assert forget(archive).copies == 0
    assert _raw(archive, LATER)["blocks"] == blocks


@given(
    st.sampled_from(["ts", "message_ts", "from_url", "original_url", "permalink", "title_link", "app_unfurl_url"]),
    st.sampled_from(["attachments", "blocks", "saved", "metadata"]),
    st.integers(0, 3),
)
def test_no_copy_is_passed_over_unread(key: str, within: str, depth: int) -> None:
    tombstones = Tombstones({"U1": 2 * 10**15}, authors=lambda _channel, at: ["U1"] if at == micros(AT) else [])
    copy: Any = {key: AT if key.endswith("ts") else LINK.format("C1"), "text": SAID}
    for _ in range(depth):
        copy = {"inner": [copy]}
    raw = {"type": "message", "ts": LATER, "user": "U2", "text": "Look.", within: [copy]}
    copies = Copies(tombstones)
    assert copies.may_be_in(encoded(raw))
    assert SECRET not in str(copies.removed(raw, micros(LATER)))


def test_what_the_sharer_typed_and_what_is_of_others_stays(archive: Archive) -> None:
    own = {"author_id": "U2", "author_name": "Ada Lovelace", "text": "By another of that name.", "ts": "1700000100.0"}
    placed = {"author_name": "Countess", "channel_id": "C1", "ts": "1700000200.000100", "text": "Grace's, renamed."}
    export = original(people()).say("general", "1700000200.000100", "Grace's, renamed.", "U2")
    export.say("random", LATER, "My own words.", "U2", attachments=[share(channel_id="C1", ts=AT), own, placed])
    export.say("random", "1700000600.000100", f"Ada said: {SAID}", "U2")
    take_in(archive, export)
    assert forget(archive).copies == 1
    assert [m.text for m in archive.messages() if m.text] == [
        "Grace's, renamed.",
        "My own words.\n[forwarded from Grace] By another of that name.\n[from Countess] Grace's, renamed.",
        f"Ada said: {SAID}",
    ]
    kept = _raw(archive, LATER)["attachments"]
    assert kept[1:] == [own, placed]


def test_a_file_of_theirs_that_is_shared_after_they_were_forgotten_is_as_old_as_it_is(archive: Archive) -> None:
    take_in(archive, people())
    forget(archive)
    files = [{"id": "F1", "user": "U1", "title": SAID, "created": 1700000000}]
    take_in(archive, people().say("random", "4000000000.000100", "Look.", "U2", files=files))
    assert "Look." in everything(archive)
    assert SECRET not in everything(archive)


def test_what_somebody_typed_below_a_file_of_theirs_stays(archive: Archive) -> None:
    text = f"<@U2> shared <@U1>'s file: <https://acme.slack.com/files/U1/F1/a|{SAID}> and commented: My own words."
    file = {"id": "F1", "user": "U1", "created": 1700000000, "title": SAID}
    take_in(archive, original(people()).say("random", LATER, text, "U2", subtype="file_share", file=file))
    forget(archive)
    assert SECRET not in everything(archive)
    assert "My own words." in _raw(archive, LATER)["text"]


def test_copies_of_messages_that_were_deleted_before_go_too(archive: Archive) -> None:
    """Of a deleted message nobody knows any more whose it was."""
    take_in(
        archive, original(people()).say("random", LATER, "Look.", "U2", attachments=[share(channel_id="C1", ts=AT)])
    )
    EventStore(archive, "T1").take([(Deleted("C1", AT), 1_700_001_000_000_000)])
    forget(archive)
    assert SECRET not in everything(archive)


def test_names_beside_ids_go(archive: Archive) -> None:
    message = {"attachments": [{"author_id": "U1", "author_name": "Ada Lovelace", "ts": "1600000000.0", "text": "x"}]}
    take_in(archive, people().say("random", LATER, "Ask <@U1|adal>, <@U2|grace>.", "U2", **message))
    forget(archive)
    told = everything(archive)
    assert not [name for name in ("adal", "Lovelace", "Countess") if name in told]
    assert "<@U2|grace>" in _raw(archive, LATER)["text"]


def test_a_name_they_had_before_tells_a_copy(archive: Archive) -> None:
    export = people().say("general", AT, SAID, "U1", user_profile={"real_name": "Ada Byron", "name": "byron"})
    export.say("random", LATER, "Look.", "U2", attachments=[{"author_subname": "byron", "text": SAID}])
    take_in(archive, export)
    assert forget(archive).copies == 1
    assert SECRET not in everything(archive)


def test_an_export_without_a_team_brings_no_copy_back(archive: Archive) -> None:
    take_in(archive, original(people()))
    forget(archive)
    shared = (
        people("").without("users").say("random", LATER, "Look.", "U2", attachments=[share(channel_id="C1", ts=AT)])
    )
    take_in(archive, shared)
    assert SECRET not in everything(archive)


def test_late_events_bring_no_copy_back(archive: Archive) -> None:
    take_in(archive, original(people()))
    forget(archive)
    now = round(time.time() * 1e6)
    base = {"type": "message", "user": "U2", "text": "Look."}
    unknown = "1700000050.000100"
    copies: list[dict[str, Any]] = [
        {**base, "ts": "1700000600.000100", "attachments": [share(channel_id="C1", ts=AT)]},
        {**base, "ts": "1700000700.000100", "attachments": [share(from_url=LINK.format("C1"))]},
        {**base, "ts": "1700000800.000100", "attachments": [{"ts": unknown, "channel_id": "C1", "text": SAID}]},
        {"type": "message", "user": "U1", "ts": unknown, "text": SAID},
    ]
    EventStore(archive, "T1").take([(Said("C1", raw), now) for raw in copies])
    assert SECRET not in everything(archive)


def test_a_sync_brings_no_copy_back(archive: Archive) -> None:
    workspace = Workspace()
    ada, grace = workspace.user("adal", "Ada Lovelace", id="U1"), workspace.user("grace", "Grace Hopper", id="U2")
    workspace.channel("general", ada, grace, id="C1")
    root = workspace.post("general", ada, SAID)
    with FakeSlack(workspace, limits=Limits.none(time_scale=20)) as slack:
        sync(slack, archive)
        forget(archive)
        workspace.post("general", grace, "Look.", attachments=[share(channel_id="C1", ts=root)])
        workspace.post("general", grace, "And this.", attachments=[{"author_name": "Ada Lovelace", "text": SAID}])
        sync(slack, archive)
    assert "Look." in [message.text for message in archive.messages()]
    assert SECRET not in everything(archive)


def test_a_question_that_waits_loses_its_copies(archive: Archive) -> None:
    take_in(archive, original(people()))
    asked = {"user": "U2", "ts": LATER, "text": "Why?", "attachments": [share(channel_id="C1", ts=AT)]}
    archive.bot("T1").accept([("E1", asked)], at=1)
    forget(archive)
    (question,) = archive.bot("T1").open_questions()
    assert question.event["text"] == "Why?"
    assert SECRET not in everything(archive)


def test_the_next_import_mends_what_an_earlier_forgetting_left(archive: Archive) -> None:
    take_in(
        archive, original(people()).say("random", LATER, "Look.", "U2", attachments=[share(channel_id="C1", ts=AT)])
    )
    raw = _raw(archive, LATER, text=True)
    forget(archive)
    _put_raw(archive, LATER, raw)
    take_in(archive, people())
    assert SECRET not in everything(archive)


def test_a_forgotten_message_is_told_from_a_deleted_one(archive: Archive) -> None:
    take_in(archive, original(people()).say("general", LATER, "Oops.", "U2"))
    EventStore(archive, "T1").take([(Deleted("C1", LATER), 1_700_001_000_000_000)])
    forget(archive)
    m = tables.messages
    with database.reading(archive._engine, archive.backend) as connection:
        assert {row.ts: row.edited for row in connection.execute(select(m.c.ts, m.c.edited))} == {
            AT: FORGOTTEN,
            LATER: DELETED,
        }


def nested(depth: int) -> str:
    inner = '{"x": [' * depth + '{"user": "U1", "text": "zebrafish"}' + "]}" * depth
    return f'{{"ts": "{LATER}", "user": "U2", "text": "Mine.", "x": {inner}}}'


ODD: dict[str, str] = {
    "broken": "{",
    "no object": "[1]",
    "empty": "",
    "odd types": json.dumps({"ts": LATER, "user": {"id": "U1"}, "text": ["U1"], "attachments": {"ts": [LATER]}}),
    "odd copies": json.dumps({"ts": LATER, "attachments": [{"user": ["U1"], "author_id": 5, "from_url": {}}, 5, None]}),
    "odd reactions": json.dumps({"ts": LATER, "reactions": [5, {"users": "U1"}, {"name": []}], "files": "U1"}),
    "a huge number": '{"ts": "1", "user": "U1", "x": ' + "9" * 5000 + "}",
    **{f"{depth} deep": nested(depth) for depth in (40, 200, 245, 400, 490, 2000, 100_000)},
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_no_stored_message_can_stop_a_forgetting(archive: Archive, raw: str) -> None:
    take_in(archive, original(people()).say("random", LATER, "Mine.", "U2"))
    _put_raw(archive, LATER, raw)
    q = tables.questions
    with database.writing(archive._engine, archive.backend) as connection:
        connection.execute(insert(q), [{"team": "T1", "event_id": "E1", "at": 1, "event": ["U1", SECRET]}])
    assert forget(archive).messages == 1
    assert SECRET not in everything(archive)
    take_in(archive, people())


def test_what_can_be_read_of_a_message_nested_too_deep_stays(archive: Archive) -> None:
    take_in(archive, original(people()).say("random", LATER, "Mine.", "U2"))
    _put_raw(archive, LATER, nested(245))
    forget(archive)
    assert [message.text for message in archive.messages() if message.text] == ["Mine."]


def test_a_message_nested_too_deep_is_skipped_wherever_it_comes_from(archive: Archive) -> None:
    deep: Any = "x"
    for _ in range(70):
        deep = {"x": deep}
    take_in(archive, people().say("general", AT, "Before.", "U2"))
    EventStore(archive, "T1").take(
        [(Said("C1", {"type": "message", "user": "U2", "ts": LATER, "text": "!", "x": deep}), 1)]
    )
    assert [message.text for message in archive.messages()] == ["Before."]


def test_forgetting_twice_removes_nothing_more(archive: Archive) -> None:
    take_in(
        archive, original(people()).say("random", LATER, "Look.", "U2", attachments=[share(channel_id="C1", ts=AT)])
    )
    assert (forget(archive).copies, forget(archive).copies) == (1, 0)
    revision = archive.revision()
    take_in(
        archive, original(people()).say("random", LATER, "Look.", "U2", attachments=[share(channel_id="C1", ts=AT)])
    )
    assert archive.revision() == revision


def test_an_archive_of_before_tells_them_apart_once_it_is_opened(tmp_path: Path) -> None:
    from alembic import command

    from tests.integration.test_migrations import config

    file, m = tmp_path / "archive.db", tables.messages
    with open_archive(file) as archive:
        take_in(archive, original(people()).say("general", LATER, "Oops.", "U2"))
        EventStore(archive, "T1").take([(Deleted("C1", LATER), 1_700_001_000_000_000)])
        forget(archive)
        with database.writing(archive._engine, archive.backend) as connection:
            for ts in (AT, LATER):
                plain = json.dumps(tombstone(ts), sort_keys=True, separators=(",", ":"))
                connection.execute(update(m).where(m.c.ts == ts).values(edited=DELETED, raw=plain))
            # What came with later migrations was not there then.
            counting = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
            for trigger in counting:
                connection.exec_driver_sql(f'DROP TRIGGER "{trigger}"')
            for table in (tables.moved_channels, tables.user_groups, tables.revisions):
                table.drop(connection)
            migrations = config()
            migrations.attributes["connection"] = connection
            command.stamp(migrations, "0011")
    with open_archive(file) as archive, database.reading(archive._engine, archive.backend) as connection:
        rows = {row.ts: (row.edited, json.loads(row.raw)) for row in connection.execute(select(m))}
    assert rows == {AT: (FORGOTTEN, {**tombstone(AT), "forgotten": True}), LATER: (DELETED, tombstone(LATER))}


def _raw(archive: Archive, ts: str, text: bool = False) -> Any:
    m = tables.messages
    with database.reading(archive._engine, archive.backend) as connection:
        raw = connection.scalar(select(m.c.raw).where(m.c.ts == ts))
    assert raw is not None
    return raw if text else json.loads(raw)


def _put_raw(archive: Archive, ts: str, raw: str) -> None:
    m = tables.messages
    with database.writing(archive._engine, archive.backend) as connection:
        connection.execute(update(m).where(m.c.ts == ts).values(raw=raw))

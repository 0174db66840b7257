"""Forgetting a person: what the archive holds of them goes, also where it stands in messages of others.

Slack put copies of what they wrote, and their names, into messages, which are stored as they came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select, update

from doppel.access import ConsentAction
from doppel.archive import Archive, tables
from doppel.archive.consent_and_feedback import new_record
from doppel.archive.forgetting import Forgotten, clear_file_names, drop_messages, drop_person
from doppel.archive.forgotten import DELETED, Tombstones, read_tombstones
from doppel.archive.messages import replace_rows, rows_where
from doppel.archive.reading import AnyRow
from doppel.archive.waiting import exclusive_or
from doppel.ingest.copies import Copies
from doppel.ingest.merge import row_of
from doppel.ingest.names import Directory, read_directory
from doppel.ingest.render import render_again
from doppel.records import Raw, User
from doppel.slack.nesting import stored_raw

WAIT_SECONDS = 600.0
"""How long forgetting waits for an import that holds the archive."""
_AT_ONCE = 100
"""Messages in memory at once."""
_FRAME = ("ts", "user", "thread_ts", "subtype")


def forget_person(archive: Archive, user: User, messages: bool, by: str, called: Collection[str] = ()) -> Forgotten:
    """Forget a person: what is kept because of their doppelganger goes, and with `messages` what they wrote.

    By what they are `called` in other workspaces copies are known here, too.

    That is so for good, whatever is imported, synced or heard later. It waits for an import that is under way, and
    until then counts as a withdrawal.
    """

    def withdraw() -> None:
        archive.waiting.withdraw(new_record(user, ConsentAction.REVOKE, by))

    with exclusive_or(archive.backend, WAIT_SECONDS, withdraw):
        archive.settle()
        with archive.writing() as connection:
            forgotten = drop_person(connection, user, messages, by)
            return _without_messages(connection, user, called, forgotten) if messages else forgotten


def _without_messages(
    connection: Connection, user: User, elsewhere: Collection[str], forgotten: Forgotten
) -> Forgotten:
    called = [User(user.team, user.id, name) for name in {*_names_of(connection, user), *elsewhere}]
    gone = drop_messages(connection, user, forgotten.at)
    tombstones, directory = read_tombstones(connection, user.team, called), read_directory(connection, user.team)
    clear_file_names(connection, user.team, tombstones)
    copies = clean_messages(connection, directory, tombstones)
    _clean_questions(connection, user.team, Copies(tombstones))
    render_again(connection, user.team, {user.id})
    return replace(forgotten, messages=gone, copies=copies)


def _names_of(connection: Connection, user: User) -> set[str]:
    """What they are called, and were called in what they wrote: copies may know them by that alone."""
    m = tables.messages
    query = select(m.c.author, m.c.raw).where(m.c.team == user.team, m.c.user == user.id)
    names = {user.handle, user.real_name, user.display_name}
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for row in rows:
            names |= {row.author, *_profile_names(stored_raw(row.raw))}
    return names - {""}


def _profile_names(raw: Raw) -> Iterable[str]:
    profile = raw.get("user_profile")
    found = [profile.get(key) for key in ("name", "real_name", "display_name")] if isinstance(profile, dict) else []
    return [name for name in found if isinstance(name, str)]


def clean_messages(connection: Connection, directory: Directory, tombstones: Tombstones) -> int:
    """Clean every stored message of a workspace; returns out of how many a copy was taken."""
    copies, number = Copies(tombstones), 0
    directory = replace(directory, names=copies.names(directory.names))
    for found in rows_where(connection, directory.team, lambda row: _may_hold(row, copies)):
        cleaned = [(row, *_cleaned(row, copies)) for row in found]
        changed = [_values(row, raw, directory) for row, raw, _ in cleaned]
        replace_rows(connection, [values for values, row in zip(changed, found, strict=True) if _differs(values, row)])
        number += sum(had_copy for *_, had_copy in cleaned)
    return number


def _clean_questions(connection: Connection, team: str, copies: Copies) -> None:
    """Clean the questions that wait for an answer; one that can't be read goes."""
    q = tables.questions
    rows = connection.execute(select(q.c.event_id, q.c.event, q.c.at).where(q.c.team == team)).all()
    for row in rows:
        cleaned = _question(row.event, row.at, copies)
        if cleaned != row.event:
            connection.execute(update(q).where(q.c.team == team, q.c.event_id == row.event_id).values(event=cleaned))


def _question(event: Any, at: int, copies: Copies) -> Any:
    try:
        return copies.removed(event, at) if isinstance(event, dict) else None
    except RecursionError:
        return None


def _may_hold(row: AnyRow, copies: Copies) -> bool:
    return row.edited < DELETED and copies.may_be_in(row.raw)


def _cleaned(row: AnyRow, copies: Copies) -> tuple[Raw, bool]:
    """What stays of a message; one that can't be read keeps its place and what was typed, as far as that is known."""
    return copies.found_and_removed(stored_raw(row.raw), row.at)


def _values(row: AnyRow, raw: Raw, directory: Directory) -> dict[str, Any]:
    kept = {"as_of": row.as_of, "edited": row.edited}
    frame = {name: getattr(row, name) for name in _FRAME if getattr(row, name)}
    values = row_of(raw, directory, row.channel) or row_of({**raw, **frame, "type": "message"}, directory, row.channel)
    return {**row._mapping, **(values or {"text": "", "said": None}), "ts": row.ts, "at": row.at, **kept}


def _differs(values: dict[str, Any], row: AnyRow) -> bool:
    return values != dict(row._mapping)

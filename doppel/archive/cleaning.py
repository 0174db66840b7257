"""Taking copies of what was forgotten out of messages that are stored, and the names of who was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select, update

from doppel.archive import tables
from doppel.archive.directory import Directory
from doppel.archive.forgotten import DELETED, Unwanted
from doppel.archive.merging import replace_rows, row_of
from doppel.archive.reading import AnyRow
from doppel.archive.rendering import rows_where
from doppel.records import Raw
from doppel.slack.nesting import stored_raw

_FRAME = ("ts", "user", "thread_ts", "subtype")


def clean_messages(connection: Connection, directory: Directory, unwanted: Unwanted) -> int:
    """Clean every stored message of a workspace; returns out of how many a copy was taken."""
    directory = replace(directory, names=unwanted.names(directory.names))
    copies = 0
    for found in rows_where(connection, directory.team, lambda row: _may_hold(row, unwanted)):
        cleaned = [(row, *_cleaned(row, unwanted)) for row in found]
        changed = [_values(row, raw, directory) for row, raw, _ in cleaned]
        replace_rows(connection, [values for values, row in zip(changed, found, strict=True) if _differs(values, row)])
        copies += sum(had_copy for *_, had_copy in cleaned)
    return copies


def clean_questions(connection: Connection, team: str, unwanted: Unwanted) -> None:
    """Clean the questions that wait for an answer; one that can't be read goes."""
    q = tables.questions
    rows = connection.execute(select(q.c.event_id, q.c.event, q.c.at).where(q.c.team == team)).all()
    for row in rows:
        cleaned = _question(row.event, row.at, unwanted)
        if cleaned != row.event:
            connection.execute(update(q).where(q.c.team == team, q.c.event_id == row.event_id).values(event=cleaned))


def _question(event: Any, at: int, unwanted: Unwanted) -> Any:
    try:
        return unwanted.cleaned(event, at) if isinstance(event, dict) else None
    except RecursionError:
        return None


def _may_hold(row: AnyRow, unwanted: Unwanted) -> bool:
    return row.edited < DELETED and unwanted.may_concern(row.raw)


def _cleaned(row: AnyRow, unwanted: Unwanted) -> tuple[Raw, bool]:
    """What stays of a message; one that can't be read keeps its place and what was typed, as far as that is known."""
    return unwanted.without_copies(stored_raw(row.raw), row.at)


def _values(row: AnyRow, raw: Raw, directory: Directory) -> dict[str, Any]:
    kept = {"as_of": row.as_of, "edited": row.edited}
    frame = {name: getattr(row, name) for name in _FRAME if getattr(row, name)}
    values = row_of(raw, directory, row.channel) or row_of({**raw, **frame, "type": "message"}, directory, row.channel)
    return {**row._mapping, **(values or {"text": "", "said": None}), "ts": row.ts, "at": row.at, **kept}


def _differs(values: dict[str, Any], row: AnyRow) -> bool:
    return values != dict(row._mapping)

"""What people said about Doppel itself: the consent ledger, which only grows, and feedback on answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, false, insert, select, update

from doppel.access import ConsentAction, ConsentRecord, is_forgotten
from doppel.archive import tables
from doppel.errors import ConsentError
from doppel.plain_text import storable
from doppel.records import User


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a reader thought of one answer; `liked` is None where only a comment was left, `sources` are permalinks."""

    id: int
    at: str
    team: str
    user_id: str
    version: str | None
    question: str
    reply: str
    sources: tuple[str, ...]
    liked: bool | None
    comment: str


_FEEDBACK = [tables.feedback.c[name] for name in Feedback.__slots__]


def now() -> str:
    """The time as the ledger writes it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_consent(connection: Connection, user: User, action: ConsentAction, by: str) -> ConsentRecord:
    """Append to the ledger."""
    return append_record(connection, new_record(user, action, by))


def new_record(user: User, action: ConsentAction, by: str) -> ConsentRecord:
    """What somebody says now."""
    return ConsentRecord(user.team, user.id, action, now(), storable(by))


def append_record(connection: Connection, record: ConsentRecord) -> ConsentRecord:
    """Append to the ledger what was said before."""
    connection.execute(insert(tables.consent).values(**asdict(record)))
    return record


def consent_records(connection: Connection, user: User | None = None, team: str | None = None) -> list[ConsentRecord]:
    """The ledger, or one workspace's or person's part of it, oldest first."""
    t = tables.consent
    query = select(t.c.team, t.c.user_id, t.c.action, t.c.at, t.c.by).order_by(t.c.id)
    if user is not None:
        query = query.where(t.c.team == user.team, t.c.user_id == user.id)
    if team is not None:
        query = query.where(t.c.team == team)
    return [
        ConsentRecord(row.team, row.user_id, ConsentAction(row.action), row.at, row.by)
        for row in connection.execute(query)
    ]


def add_feedback(
    connection: Connection,
    team: str,
    user_id: str,
    *,
    version: str | None,
    question: str,
    reply: str,
    sources: Sequence[str],
    liked: bool | None,
    comment: str,
    vote: str | None = None,
    replaces: int | None = None,
) -> Feedback:
    """Store what a reader thought of one answer, in the place of an earlier with the same `vote`, or `replaces`' id.

    Raises ConsentError where the persona was forgotten meanwhile.
    """
    if is_forgotten(consent_records(connection, User(team, user_id, ""))):
        raise ConsentError("Whoever this answer was given as was forgotten; nothing about it is kept.")
    values = {
        "at": now(),
        "team": team,
        "user_id": user_id,
        "version": version,
        "question": storable(question),
        "reply": storable(reply),
        "sources": list(sources),
        "liked": liked,
        "comment": storable(comment),
        "vote": vote,
    }
    t = tables.feedback
    earlier = [t.c.vote == vote] if vote else [t.c.id == replaces] if replaces else [false()]
    changed = update(t).where(t.c.team == team, *earlier).values(**values).returning(*_FEEDBACK)
    row = connection.execute(changed).first()
    row = row or connection.execute(insert(t).values(**values).returning(*_FEEDBACK)).one()
    return _feedback(row._mapping)


def feedback(connection: Connection) -> list[Feedback]:
    """All of it, oldest first."""
    rows = connection.execute(select(*_FEEDBACK).order_by(tables.feedback.c.id))
    return [_feedback(row._mapping) for row in rows]


def _feedback(row: RowMapping) -> Feedback:
    return Feedback(**{**row, "sources": tuple(row["sources"])})

"""Replies drafted for people in their own manner: open until they are sent, and kept where they were changed.

What was answered is kept as a reference to the message, never as a copy. Times are microseconds since the epoch.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from doppel.access import ConsentRecord, has_consent
from doppel.archive import tables
from doppel.archive.backend import Backend
from doppel.archive.database import reading, writing
from doppel.errors import ConsentError
from doppel.plain_text import storable
from doppel.records import KeptEdit, User

KEPT_UNSENT = 7 * 86_400_000_000
"""How long a draft that nobody sends is kept."""

Records = Callable[[Connection, User], list[ConsentRecord]]

OPEN, SENDING, SENT = "open", "sending", "sent"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants a reply to, and where the reply would go: a thread, or the channel where `thread_ts` is "".

    `answered_ts` names a message of the channel; where it is "", `question` holds what they gave themselves.
    """

    user_id: str
    channel: str
    thread_ts: str
    answered_ts: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply that its person may send; `edited` says that they changed what `version` of their adapter wrote."""

    id: str
    at: int
    wanted: Wanted
    text: str
    version: str | None
    edited: bool = False


class DraftStore:
    """The drafts of one workspace. Safe from several threads; every method is one transaction.

    `records` reads what a person said about their doppelganger.
    """

    def __init__(self, engine: Engine, backend: Backend, team: str, records: Records) -> None:
        self._engine, self._backend, self.team, self._records = engine, backend, team, records

    def add(
        self, at: int, wanted: Wanted, text: str, version: str | None, asked_at: int, instead_of: str | None = None
    ) -> Draft | None:
        """Keep a new draft that was asked for at `asked_at`, in the place of an open one if `instead_of` names one.

        None where that one is not open any more. Raises ConsentError where its person said no since, or anybody was
        forgotten whom it may quote. Drafts that nobody sent for long go.
        """
        with writing(self._engine, self._backend) as connection:
            self._require_unchanged(connection, wanted.user_id, asked_at)
            self._sweep(connection, at)
            return self._put(connection, Draft(_new_id(), at, wanted, storable(text), version), instead_of)

    def edit(self, draft: Draft, text: str) -> Draft | None:
        """Put what its person made of a draft in its place, under a new id; None where it is not open any more."""
        edited = Draft(_new_id(), draft.at, draft.wanted, storable(text), draft.version, edited=True)
        with writing(self._engine, self._backend) as connection:
            return self._put(connection, edited, draft.id)

    def open_draft(self, draft_id: str, user_id: str) -> Draft | None:
        """Somebody's draft of that id, if it is theirs and not sent."""
        t = tables.drafts
        with reading(self._engine, self._backend) as connection:
            row = connection.execute(select(t).where(*self._here(draft_id), t.c.user_id == user_id)).one_or_none()
        if row is None:
            return None
        wanted = Wanted(row.user_id, row.channel, row.thread_ts, row.answered_ts, row.question)
        return Draft(row.id, row.at, wanted, row.text, row.version, row.edited)

    def claim(self, draft_id: str) -> bool:
        """Take the right to send a draft; only one caller ever gets it, unless it is given back."""
        return self._move(draft_id, OPEN, SENDING)

    def give_back(self, draft_id: str) -> None:
        """It was not sent, and may be."""
        self._move(draft_id, SENDING, OPEN)

    def finish(self, draft: Draft, sent_ts: str) -> None:
        """It was sent. What its person changed is kept, if they agree to a doppelganger; of the rest only where."""
        with writing(self._engine, self._backend) as connection:
            agrees = has_consent(self._records(connection, User(self.team, draft.wanted.user_id, "")))
            kept = {} if draft.edited and agrees else _nothing()
            values = {"state": SENT, "sent_ts": sent_ts, **kept}
            connection.execute(update(tables.drafts).where(*self._here(draft.id, SENDING)).values(**values))

    def _put(self, connection: Connection, draft: Draft, instead_of: str | None) -> Draft | None:
        t = tables.drafts
        if instead_of is not None and not connection.execute(delete(t).where(*self._here(instead_of))).rowcount:
            return None
        row = {"id": draft.id, "at": draft.at, "text": draft.text, "version": draft.version, "edited": draft.edited}
        connection.execute(insert(t).values(team=self.team, **row, **asdict(draft.wanted), state=OPEN, sent_ts=""))
        return draft

    def _require_unchanged(self, connection: Connection, user_id: str, since: int) -> None:
        """Raise ConsentError where the person doesn't agree, or was forgotten, or somebody's messages were."""
        if not has_consent(self._records(connection, User(self.team, user_id, ""))):
            raise ConsentError("You withdrew your consent meanwhile; nothing of the draft is kept.")
        f = tables.forgotten
        query = select(f.c.user_id).where(f.c.team == self.team, f.c.at >= since)
        if connection.scalar(query.where((f.c.user_id == user_id) | f.c.messages).limit(1)) is not None:
            raise ConsentError("Somebody was forgotten while this was being written; ask again.")

    def _sweep(self, connection: Connection, now: int) -> None:
        t = tables.drafts
        old = (t.c.team == self.team, t.c.state != SENT, t.c.at < now - KEPT_UNSENT)
        connection.execute(delete(t).where(*old))

    def _move(self, draft_id: str, before: str, after: str) -> bool:
        with writing(self._engine, self._backend) as connection:
            moved = connection.execute(update(tables.drafts).where(*self._here(draft_id, before)).values(state=after))
            return bool(moved.rowcount)

    def _here(self, draft_id: str, state: str = OPEN) -> tuple[Any, ...]:
        t = tables.drafts
        return t.c.team == self.team, t.c.id == draft_id, t.c.state == state


def kept_edits(connection: Connection, user: User) -> list[KeptEdit]:
    """What a person made of their drafts, oldest first."""
    t = tables.drafts
    query = select(t).where(t.c.team == user.team, t.c.user_id == user.id, t.c.state == SENT, t.c.text != "")
    return [
        KeptEdit(row.team, row.channel, row.sent_ts, row.answered_ts, row.question, row.text)
        for row in connection.execute(query.order_by(t.c.at, t.c.sent_ts))
    ]


def withdraw_drafts(connection: Connection, user: User) -> None:
    """Remove what a person was drafted and what they made of it; where a sent one stands is still known."""
    t = tables.drafts
    theirs = (t.c.team == user.team, t.c.user_id == user.id)
    connection.execute(delete(t).where(*theirs, t.c.state != SENT))
    connection.execute(update(t).where(*theirs).values(**_nothing()))


def drop_unsent(connection: Connection, team: str) -> None:
    """Remove every draft that was not sent: a model wrote it, and may have quoted anybody."""
    t = tables.drafts
    connection.execute(delete(t).where(t.c.team == team, t.c.state != SENT))


def _nothing() -> dict[str, Any]:
    """What is left of a draft whose text isn't kept."""
    return {"text": "", "question": "", "answered_ts": ""}


def _new_id() -> str:
    return secrets.token_hex(8)

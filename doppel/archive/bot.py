"""What the bot must not forget: what it was asked, who answers where, and what it answered.

Times are microseconds since the epoch.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Table, and_, delete, insert, literal, or_, select, update

from doppel.archive import tables
from doppel.archive.backend import Backend
from doppel.archive.database import reading, writing
from doppel.archive.forgotten import forgotten_since
from doppel.archive.upsert import put_row, upsert
from doppel.plain_text import storable
from doppel.records import Raw

KEPT_QUESTIONS = 7 * 86_400_000_000
"""How long an event's id is remembered: Slack sends none again after an hour."""
SWEEP = 3_600_000_000
"""How often those are deleted that are older."""


@dataclass(frozen=True, slots=True)
class Open:
    """A question that has no whole answer yet; `posted_ts` is what was posted of it."""

    event_id: str
    event: Raw
    posted_ts: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered in a thread, or `private`ly to its asker; `user_id` is the persona, `sources` permalinks."""

    id: str
    at: int
    channel: str
    thread_ts: str
    asker: str
    user_id: str
    version: str | None
    question: str
    reply: str
    sources: tuple[str, ...]
    private: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A question to `user_id` whether they agree; `state` is open, agreed, declined, expired or deleted.

    `channel` is where `asked_by` asked for it; `posted_in` and `posted_ts` name the message that asks.
    """

    id: str
    user_id: str
    asked_by: str
    channel: str
    expires: int
    state: str = "open"
    posted_in: str = ""
    posted_ts: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Who is to be told, and where, when a job has ended."""

    job_id: str
    channel: str
    user_id: str


def new_answer_id() -> str:
    """An id that tells nothing."""
    return secrets.token_hex(8)


class BotStore:
    """One workspace's part of it. Safe from several threads; every method is one transaction."""

    def __init__(self, engine: Engine, backend: Backend, team: str) -> None:
        self._engine, self._backend, self.team = engine, backend, team
        self._swept = 0

    def accept(self, events: Sequence[tuple[str, Raw]], at: int) -> set[str]:
        """Keep questions, by their event's id, until they are finished; returns the ids that were not known."""
        t, by_id = tables.questions, dict(events)
        rows = [{"team": self.team, "event_id": id_, "at": at, "event": event} for id_, event in by_id.items()]
        with writing(self._engine, self._backend) as connection:
            kept = upsert(connection, t).values(rows).on_conflict_do_nothing().returning(t.c.event_id)
            new = set(connection.scalars(kept))
            if at - self._swept > SWEEP:
                connection.execute(delete(t).where(t.c.team == self.team, t.c.at < at - KEPT_QUESTIONS))
                self._swept = at
        return new

    def open_questions(self) -> list[Open]:
        """What was asked and not finished, oldest first."""
        t = tables.questions
        with reading(self._engine, self._backend) as connection:
            query = select(t.c.event_id, t.c.event, t.c.posted_ts).where(t.c.team == self.team, t.c.event.is_not(None))
            rows = connection.execute(query.order_by(t.c.at, t.c.event_id))
            return [Open(row.event_id, row.event, row.posted_ts) for row in rows if row.event]

    def note_posted(self, event_id: str, ts: str) -> None:
        """Remember the message in which a question is being answered."""
        self._update_question(event_id, posted_ts=ts)

    def finish(self, event_id: str) -> None:
        """A question is answered, or was told why not."""
        self._update_question(event_id, event=None)

    def default_persona(self, channel: str = "", thread_ts: str = "") -> str | None:
        """Who answers exactly there: in a thread, in a channel, or in the workspace."""
        t = tables.default_personas
        with reading(self._engine, self._backend) as connection:
            here = and_(t.c.channel == channel, t.c.thread_ts == thread_ts)
            found: str | None = connection.scalar(self._of(t, t.c.user_id, here))
            return found

    def default_personas(self, channel: str, thread_ts: str) -> tuple[str | None, str | None, str | None]:
        """Who answers in a thread, in its channel, and in the workspace, as far as that is said."""
        t, places = tables.default_personas, ((channel, thread_ts), (channel, ""), ("", ""))
        here = or_(*(and_(t.c.channel == channel, t.c.thread_ts == thread) for channel, thread in places))
        query = select(t.c.channel, t.c.thread_ts, t.c.user_id).where(t.c.team == self.team, here)
        with reading(self._engine, self._backend) as connection:
            found = {(row.channel, row.thread_ts): row.user_id for row in connection.execute(query)}
        in_thread, in_channel, everywhere = (found.get(place) for place in places)
        return in_thread, in_channel, everywhere

    def set_default_persona(self, user_id: str, channel: str = "", thread_ts: str = "") -> None:
        """Say who answers there from now on."""
        key = {"team": self.team, "channel": channel, "thread_ts": thread_ts}
        with writing(self._engine, self._backend) as connection:
            put_row(connection, tables.default_personas, key, {"user_id": user_id})

    def add_answer(self, at: int, asked_at: int | None = None, id: str = "", **values: Any) -> Answer:
        """Keep what was answered; `values` are the fields of Answer, which gets an id where it has none. Returns it.

        It isn't kept where who asked, or who answered, was forgotten since `asked_at`.
        """
        answer = Answer(id or new_answer_id(), at, **values)
        row = {name: getattr(answer, name) for name in Answer.__slots__}
        row |= {"question": storable(answer.question), "reply": storable(answer.reply), "sources": list(answer.sources)}
        with writing(self._engine, self._backend) as connection:
            since = at if asked_at is None else asked_at
            gone = forgotten_since(self.team, [answer.asker, answer.user_id], since)
            values = {"team": self.team, **row}
            columns = [literal(value, tables.answers.c[name].type) for name, value in values.items()]
            kept = select(*columns).where(~gone.exists())
            connection.execute(insert(tables.answers).from_select(list(values), kept))
        return answer

    def answer(self, answer_id: str) -> Answer | None:
        """The answer of that id, or None."""
        found = self._answers(tables.answers.c.id == answer_id)
        return found[0] if found else None

    def answers(self, channel: str, thread_ts: str | None = None, last: int | None = None) -> list[Answer]:
        """What was answered in a thread or in a whole channel, in order; all of it or the `last` so many."""
        t = tables.answers
        here = t.c.channel == channel
        return self._answers(here if thread_ts is None else and_(here, t.c.thread_ts == thread_ts), last)

    def add_request(self, request: Request) -> None:
        """Keep a question to somebody."""
        row = {name: getattr(request, name) for name in Request.__slots__}
        with writing(self._engine, self._backend) as connection:
            connection.execute(insert(tables.consent_requests).values(team=self.team, **row))

    def requests(self, state: str, user_id: str | None = None) -> list[Request]:
        """Those in that state, of everybody or of one person; the newest last."""
        t = tables.consent_requests
        query = select(t).where(t.c.team == self.team, t.c.state == state).order_by(t.c.expires, t.c.id)
        if user_id is not None:
            query = query.where(t.c.user_id == user_id)
        with reading(self._engine, self._backend) as connection:
            rows = connection.execute(query)
            return [Request(**{name: getattr(row, name) for name in Request.__slots__}) for row in rows]

    def settle_request(self, request_id: str, state: str) -> bool:
        """Give an open request its end; False where it has one."""
        t = tables.consent_requests
        here = (t.c.team == self.team, t.c.id == request_id, t.c.state == "open")
        with writing(self._engine, self._backend) as connection:
            return bool(connection.execute(update(t).where(*here).values(state=state)).rowcount)

    def add_notice(self, notice: Notice) -> None:
        """Tell somebody when a job has ended; once, however often this is called."""
        key = {"team": self.team, "job_id": notice.job_id, "channel": notice.channel}
        with writing(self._engine, self._backend) as connection:
            put_row(connection, tables.notices, key, {"user_id": notice.user_id})

    def notices(self) -> list[Notice]:
        """Who waits for a job."""
        t = tables.notices
        with reading(self._engine, self._backend) as connection:
            rows = connection.execute(select(t).where(t.c.team == self.team).order_by(t.c.job_id, t.c.channel))
            return [Notice(row.job_id, row.channel, row.user_id) for row in rows]

    def drop_notice(self, notice: Notice) -> None:
        """It was told."""
        t = tables.notices
        here = (t.c.team == self.team, t.c.job_id == notice.job_id, t.c.channel == notice.channel)
        with writing(self._engine, self._backend) as connection:
            connection.execute(delete(t).where(*here))

    def _answers(self, condition: Any, last: int | None = None) -> list[Answer]:
        t = tables.answers
        query = select(t).where(t.c.team == self.team, condition).order_by(t.c.at.desc(), t.c.id.desc()).limit(last)
        with reading(self._engine, self._backend) as connection:
            found = [{name: getattr(row, name) for name in Answer.__slots__} for row in connection.execute(query)]
        return [Answer(**{**values, "sources": tuple(values["sources"])}) for values in reversed(found)]

    def _update_question(self, event_id: str, **values: Any) -> None:
        t = tables.questions
        with writing(self._engine, self._backend) as connection:
            connection.execute(update(t).where(t.c.team == self.team, t.c.event_id == event_id).values(**values))

    def _of(self, table: Table, column: Any, condition: Any) -> Any:
        return select(column).where(table.c.team == self.team, condition)

"""What can't wait for an import: what people withdraw and what events forbid counts at once, and is written later.

An import holds the archive for as long as it takes, minutes for a large one, and whatever writes waits for it. This is
promised:

- Who withdraws their consent, pauses or is to be forgotten meanwhile is not answered as from then on, in every process.
  The withdrawal is on disk; it goes into the ledger as soon as anything can be written there.
- What an event tells narrows the answers of the process that hears it from when it is heard, and those of every other
  process once the event has waited for PATIENCE_SECONDS; until it is written. See `restrictions`.
- After a crash the limits stay until a whole sync that began later has got through, which reads what they were about.

It stands beside the archive, in a SQLite file of its own, which is made when it is first needed, or in a Postgres in
tables that an import doesn't lock. There are ids and times in it, and no words.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Engine, Text, cast, delete, insert, null, select

from doppel.access import ConsentAction, ConsentRecord, is_refused
from doppel.archive import tables
from doppel.archive.backend import Backend
from doppel.archive.channels import moved_channels
from doppel.archive.consent_and_feedback import append_record, consent_records
from doppel.archive.database import errors_of, exclusive
from doppel.archive.drafts import withdraw_drafts
from doppel.archive.restrictions import Limit, Restriction, Restrictions
from doppel.errors import BusyError
from doppel.ids import UNKNOWN_TEAM
from doppel.records import User
from doppel.timestamps import now_micros

_LIMITS = ("team", "limit", "channel", "subject")
_RECORDS = ("user_id", "action", "at", "by")


def _standing() -> CompoundSelect[Any]:
    w, c = tables.waiting.c, tables.withdrawals.c
    limits = select(w.id, *(w[name] for name in _LIMITS), *(cast(null(), Text).label(name) for name in _RECORDS))
    nothing = (cast(null(), Text).label(name) for name in _LIMITS[1:])
    records = select(c.id, c.team, *nothing, *(c[name] for name in _RECORDS))
    return limits.union_all(records).order_by("id")


_STANDING = _standing()

PATIENCE_SECONDS = 0.5
"""How long somebody waits for who holds the archive before what can't wait is noted."""

TAKES_AWAY = frozenset(set(ConsentAction) - {ConsentAction.GRANT, ConsentAction.RESUME})
"""What can't wait of what people say about their doppelganger."""


@contextmanager
def soon_exclusive(backend: Backend) -> Iterator[None]:
    """The right to import, if it is to be had soon; raises BusyError."""
    with exclusive(backend, PATIENCE_SECONDS):
        yield


@contextmanager
def exclusive_or(backend: Backend, seconds: float, note: Callable[[], None]) -> Iterator[None]:
    """The right to import; where somebody else has it, `note` what can't wait, then wait so long.

    Raises BusyError.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(soon_exclusive(backend))
        except BusyError:
            note()
            stack.enter_context(exclusive(backend, seconds))
        yield


class Waiting:
    """What waits for one archive. Safe from several threads."""

    def __init__(self, engine: Engine, backend: Backend) -> None:
        self._archive, self._backend = engine, backend
        self._engine: Engine | None = None
        self._heard: Counter[Restriction] = Counter()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()

    def hear(self, limits: Iterable[Restriction]) -> None:
        """Let limits hold in this process, until they are let go as often."""
        with self._lock:
            self._heard.update(limits)

    def let_go(self, limits: Iterable[Restriction]) -> None:
        """What they were about is written."""
        with self._lock:
            self._heard.subtract(limits)
            self._heard = +self._heard

    def keep(self, limits: Iterable[Restriction]) -> list[int]:
        """Let limits hold in every process, also after a crash; returns what they can be dropped by."""
        rows = [asdict(limit) | {"at": now_micros()} for limit in limits]
        with self._writing() as connection:
            kept = insert(tables.waiting).returning(tables.waiting.c.id)
            return [connection.execute(kept.values(**row)).scalar_one() for row in rows]

    def drop(self, ids: Collection[int]) -> None:
        """What they were about is written."""
        with self._writing() as connection:
            connection.execute(delete(tables.waiting).where(tables.waiting.c.id.in_(ids)))

    def drop_before(self, team: str, at: int) -> None:
        """A sync that began at that time has read all of a workspace."""
        t = tables.waiting
        if self._beside() is not None:
            with self._writing() as connection:
                connection.execute(delete(t).where(t.c.team == team, t.c.at < at))

    def heard(self, connection: Connection) -> Restrictions:
        """What holds now in this process."""
        return Restrictions(frozenset(_everywhere(connection, self._heard_now())))

    def standing(self, connection: Connection) -> tuple[Restrictions, list[ConsentRecord]]:
        """What holds now, and what waits to be written to the ledger, in one statement.

        To be asked before anything else in a transaction: what is over by then is seen there.
        """
        heard = self._heard_now()
        kept, withdrawn = self._kept(connection)
        return Restrictions(frozenset(_everywhere(connection, heard | kept))), withdrawn

    def has_withdrawals(self, connection: Connection) -> bool:
        """Whether anything waits to be written to the ledger."""
        return bool(self._withdrawals(connection))

    def withdraw(self, record: ConsentRecord) -> None:
        """Let what somebody withdraws count, before it can be written to the ledger."""
        with self._writing() as connection:
            connection.execute(insert(tables.withdrawals).values(**asdict(record)))

    def records(self, connection: Connection, user: User | None) -> list[ConsentRecord]:
        """The ledger, or one person's part of it, oldest first, and what waits to be written there."""
        waiting = [record for record in self._withdrawals(connection) if _is_by(record, user)]
        known = consent_records(connection, user)
        return [*known, *(record for record in waiting if record not in known)]

    def settle(self, connection: Connection, records: Sequence[ConsentRecord]) -> list[ConsentRecord]:
        """Write to the ledger what waits and then `records`, in a transaction of the archive.

        Returns what waited, to be removed with `settled` after it.
        """
        waiting = self._withdrawals(connection)
        known = consent_records(connection, None) if waiting else []
        waited = dict.fromkeys(_in_its_team(connection, record) for record in waiting)
        for record in (*(record for record in waited if record not in known), *records):
            append_record(connection, record)
            if is_refused([record]):
                withdraw_drafts(connection, User(record.team, record.user_id, ""))
        return waiting

    def settled(self, records: Sequence[ConsentRecord]) -> None:
        """These are in the ledger now."""
        t = tables.withdrawals
        if records:
            with self._writing() as connection:
                for record in records:
                    here = (t.c[name] == value for name, value in asdict(record).items())
                    connection.execute(delete(t).where(*here))

    def erase(self, team: str) -> None:
        """Remove what waits for a workspace."""
        if self._beside() is not None:
            with self._writing() as connection:
                for table in (tables.waiting, tables.withdrawals):
                    connection.execute(delete(table).where(table.c.team == team))

    def _withdrawals(self, connection: Connection) -> list[ConsentRecord]:
        return self._kept(connection)[1]

    def _heard_now(self) -> frozenset[Restriction]:
        with self._lock:
            return frozenset(self._heard)

    def _kept(self, connection: Connection) -> tuple[frozenset[Restriction], list[ConsentRecord]]:
        """What holds in every process, and what waits to be written to the ledger, oldest first."""
        limits, records = set[Restriction](), list[ConsentRecord]()
        with self._reading(connection) as beside:
            for row in beside.execute(_STANDING) if beside is not None else ():
                if row.limit is not None:
                    limits.add(Restriction(row.team, Limit(row.limit), row.channel, row.subject))
                else:
                    records.append(ConsentRecord(row.team, row.user_id, ConsentAction(row.action), row.at, row.by))
        return frozenset(limits), records

    def _beside(self, create: bool = False) -> Engine | None:
        with self._lock:
            if self._engine is None:
                self._engine = self._backend.beside(self._archive, create)
            return self._engine

    @contextmanager
    def _reading(self, connection: Connection) -> Iterator[Connection | None]:
        engine = self._beside()
        if engine is None or engine is self._archive:
            yield None if engine is None else connection
            return
        with errors_of(self._backend), engine.connect() as beside:
            yield beside

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction beside the archive, which waits for nobody who writes there."""
        with errors_of(self._backend):
            engine = self._beside(create=True)
            assert engine is not None
            with engine.execution_options(writes=True).begin() as connection:
                yield connection


def _everywhere(connection: Connection, limits: Collection[Restriction]) -> Iterator[Restriction]:
    """The limits, of a channel under the id that it has now as well."""
    ids = defaultdict[str, set[str]](set)
    for limit in limits:
        if limit.channel:
            ids[limit.team].add(limit.channel)
    moved = {team: moved_channels(connection, team, channels) for team, channels in ids.items()}
    for limit in limits:
        yield limit
        if now := moved.get(limit.team, {}).get(limit.channel):
            yield replace(limit, channel=now)


def _is_by(record: ConsentRecord, user: User | None) -> bool:
    return user is None or (record.team, record.user_id) == (user.team, user.id)


def _in_its_team(connection: Connection, record: ConsentRecord) -> ConsentRecord:
    """The record under the name that its workspace got meanwhile, if it had none."""
    u = tables.users
    if record.team != UNKNOWN_TEAM:
        return record
    teams = [*connection.scalars(select(u.c.team).where(u.c.id == record.user_id))]
    return record if record.team in teams or len(teams) != 1 else replace(record, team=teams[0])

"""Workspaces in which the app is installed, and who of them is signed in to the web chat.

Times are microseconds since the epoch. Tokens come and go encrypted; nobody here can read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, delete, insert, select, update

from doppel.archive import tables
from doppel.archive.backend import Backend
from doppel.archive.database import reading, writing
from doppel.archive.upsert import put_row

MAX_SESSIONS = 20
"""Browsers in which one person may be signed in."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The app in one workspace. `bot_token` is "" where the token is a setting; without rotation, tokens don't expire.

    `removed_at` is None while the app is installed.
    """

    team: str
    name: str
    bot_user: str
    bot_token: str = ""
    refresh_token: str = ""
    expires: int | None = None
    installed_by: str = ""
    installed_at: int = 0
    removed_at: int | None = None


@dataclass(frozen=True, slots=True)
class WebSession:
    """Somebody who is signed in; `id` is the hash of what their browser holds."""

    team: str
    id: str
    user_id: str
    expires: int


class Installations:
    """Safe from several threads; every method is one transaction."""

    def __init__(self, engine: Engine, backend: Backend) -> None:
        self._engine, self._backend = engine, backend

    def all(self) -> list[Installation]:
        """Every workspace, by team; also those that removed the app and whose data is still there."""
        return self._those()

    def get(self, team: str) -> Installation | None:
        """The installation in a workspace, unless the app was removed there."""
        t = tables.installations
        return next(iter(self._those(t.c.team == team, t.c.removed_at.is_(None))), None)

    def put(self, installation: Installation) -> None:
        """Keep a new installation, or one that takes the place of an earlier."""
        values = asdict(installation)
        key = {"team": values.pop("team")}
        with writing(self._engine, self._backend) as connection:
            put_row(connection, tables.installations, key, values | {"leased_until": 0})

    def remove(self, team: str, at: int) -> bool:
        """The app is removed: its tokens and sessions are gone at once. False where that is known."""
        t, s, heard = tables.installations, tables.web_sessions, tables.listening
        gone = {"bot_token": "", "refresh_token": "", "expires": None, "removed_at": at}
        with writing(self._engine, self._backend) as connection:
            connection.execute(delete(s).where(s.c.team == team))
            connection.execute(delete(heard).where(heard.c.team == team))
            here = (t.c.team == team, t.c.removed_at.is_(None))
            return bool(connection.execute(update(t).where(*here).values(**gone)).rowcount)

    def lease(self, team: str, now: int, until: int) -> bool:
        """Take the right to fetch new tokens, for one process at a time; False where another has it."""
        t = tables.installations
        here = (t.c.team == team, t.c.removed_at.is_(None), t.c.leased_until <= now)
        with writing(self._engine, self._backend) as connection:
            return bool(connection.execute(update(t).where(*here).values(leased_until=until)).rowcount)

    def renew(self, team: str, bot_token: str, refresh_token: str, expires: int | None) -> None:
        """Keep new tokens, and give the right back; not where the app was removed meanwhile."""
        t = tables.installations
        values = {"bot_token": bot_token, "refresh_token": refresh_token, "expires": expires, "leased_until": 0}
        with writing(self._engine, self._backend) as connection:
            connection.execute(update(t).where(t.c.team == team, t.c.removed_at.is_(None)).values(**values))

    def give_back(self, team: str) -> None:
        """Give the right to fetch tokens back, without any."""
        t = tables.installations
        with writing(self._engine, self._backend) as connection:
            connection.execute(update(t).where(t.c.team == team).values(leased_until=0))

    def add_session(self, session: WebSession, now: int) -> None:
        """Somebody signed in; sessions that are over go, and the oldest of a person who has too many."""
        t = tables.web_sessions
        theirs = (t.c.team == session.team, t.c.user_id == session.user_id)
        with writing(self._engine, self._backend) as connection:
            connection.execute(delete(t).where(t.c.expires <= now))
            ids = connection.scalars(select(t.c.id).where(*theirs).order_by(t.c.expires.desc(), t.c.id)).all()
            connection.execute(delete(t).where(t.c.team == session.team, t.c.id.in_(ids[MAX_SESSIONS - 1 :])))
            connection.execute(insert(t).values(**asdict(session)))

    def session(self, session_id: str, now: int) -> WebSession | None:
        """Who is signed in by that, if it isn't over."""
        t = tables.web_sessions
        columns = [t.c[name] for name in WebSession.__slots__]
        with reading(self._engine, self._backend) as connection:
            row = connection.execute(select(*columns).where(t.c.id == session_id, t.c.expires > now)).first()
        return WebSession(*row) if row else None

    def end_session(self, session_id: str) -> None:
        """Somebody signed out."""
        t = tables.web_sessions
        with writing(self._engine, self._backend) as connection:
            connection.execute(delete(t).where(t.c.id == session_id))

    def _those(self, *conditions: Any) -> list[Installation]:
        t = tables.installations
        columns = [t.c[name] for name in Installation.__slots__]
        with reading(self._engine, self._backend) as connection:
            rows = connection.execute(select(*columns).where(*conditions).order_by(t.c.team))
            return [Installation(*row) for row in rows]


def active(installations: Sequence[Installation]) -> list[Installation]:
    """Those in which the app is installed now."""
    return [found for found in installations if found.removed_at is None]

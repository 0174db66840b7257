"""Who was forgotten with their messages, and so what must not come back with an import, a sync or an event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, func, select

from doppel.access import ConsentAction
from doppel.archive import tables
from doppel.ids import UNKNOWN_TEAM
from doppel.moments import micros
from doppel.records import User
from doppel.slack.markup import Names, Raw
from doppel.slack.messages import timestamp

FORGOTTEN_NAME = "someone who was forgotten"
_BARE = frozenset({"type", "subtype", "ts", "thread_ts", "user", "author_id", "channel_id", "team"})


@dataclass(frozen=True, slots=True)
class Unwanted:
    """What must not come back.

    `until` says up to when, in microseconds, what somebody wrote is gone; `nameless` are those who have not agreed to
    anything since, and so have no name either. Both by user id.
    """

    until: Mapping[str, int] = field(default_factory=dict)
    nameless: frozenset[str] = frozenset()

    def covers(self, user: object, at: int) -> bool:
        """Whether what `user` wrote at that time is gone."""
        return isinstance(user, str) and at <= self.until.get(user, -1)

    def names(self, names: Names) -> Names:
        """`names` without theirs."""
        return replace(names, users={**names.users, **dict.fromkeys(self.nameless, FORGOTTEN_NAME)})

    def person(self, user: User) -> User:
        """What may be known of somebody: of those without a name, the id."""
        if user.id not in self.nameless:
            return user
        return User(user.team, user.id, "", display_name=FORGOTTEN_NAME, is_bot=user.is_bot, is_guest=user.is_guest)

    def cleaned(self, raw: Raw, at: int) -> Raw:
        """A message of somebody else, without the copies of theirs that Slack put in: shares, roots of threads."""
        if not self.until:
            return raw
        return {key: self._clean(value, at) for key, value in raw.items() if not self._is_profile(key, raw)}

    def _clean(self, value: Any, at: int) -> Any:
        if isinstance(value, list):
            return [self._clean(item, at) for item in value]
        if not isinstance(value, dict):
            return value
        ts = timestamp(value.get("ts"))
        at = micros(ts) if ts else at
        if self.covers(value.get("user"), at) or self.covers(value.get("author_id"), at):
            return {key: item for key, item in value.items() if key in _BARE}
        return {key: self._clean(item, at) for key, item in value.items() if not self._is_profile(key, value)}

    def _is_profile(self, key: str, message: Raw) -> bool:
        user = message.get("user")
        return key == "user_profile" and isinstance(user, str) and user in self.nameless


def read_unwanted(connection: Connection, team: str) -> Unwanted:
    """What must not come back to a workspace; one without a name may be any."""
    t = tables.forgotten
    query = select(t.c.user_id, func.max(t.c.at).label("until")).where(t.c.messages).group_by(t.c.user_id)
    if team != UNKNOWN_TEAM:
        query = query.where(t.c.team.in_([team, UNKNOWN_TEAM]))
    until = {row.user_id: row.until for row in connection.execute(query)}
    return Unwanted(until, _nameless(connection, until)) if until else Unwanted()


def clean_revision(connection: Connection) -> int:
    """The revision from which on an index holds nothing that was forgotten; 0 where nothing was."""
    t = tables.forgotten
    return int(connection.scalar(select(func.coalesce(func.max(t.c.revision), 0)).where(t.c.messages)) or 0)


def forgotten_since(connection: Connection, team: str, users: Collection[str], at: int) -> bool:
    """Whether any of `users` was forgotten at that time or later."""
    t = tables.forgotten
    query = select(t.c.user_id).where(t.c.team == team, t.c.user_id.in_(users), t.c.at >= at).limit(1)
    return connection.scalar(query) is not None


def _nameless(connection: Connection, users: Collection[str]) -> frozenset[str]:
    """Those who did not agree since they were forgotten."""
    t = tables.consent
    query = select(t.c.user_id, t.c.action).where(t.c.user_id.in_(users)).order_by(t.c.id)
    decisive = (ConsentAction.GRANT, ConsentAction.FORGET)
    last = {row.user_id: row.action for row in connection.execute(query.where(t.c.action.in_(decisive)))}
    return frozenset(user for user in users if last.get(user) != ConsentAction.GRANT)

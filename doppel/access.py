"""Who may read what, and who has agreed. Pure: it decides, the archive remembers. Unknown means no."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from doppel.errors import ConfigError, ConsentError
from doppel.records import Channel, ChannelKind, User

ChannelKey = tuple[str, str]
"""(team, channel id)."""


class ConsentAction(StrEnum):
    """What a person, or somebody on the record for them, said about their doppelganger."""

    GRANT = "grant"
    DECLINE = "decline"
    REVOKE = "revoke"
    FORGET = "forget"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """One entry of the consent ledger; `at` is ISO 8601 in UTC, `by` whoever entered it."""

    team: str
    user_id: str
    action: ConsentAction
    at: str
    by: str


_NOES = (ConsentAction.DECLINE, ConsentAction.REVOKE, ConsentAction.FORGET)
_ANSWERS = (ConsentAction.GRANT, *_NOES)
_SWITCHES = (ConsentAction.GRANT, ConsentAction.PAUSE, ConsentAction.RESUME)


def has_consent(records: Iterable[ConsentRecord]) -> bool:
    """Whether the last that one person answered in `records`, oldest first, is a yes."""
    return _last(records, _ANSWERS) is ConsentAction.GRANT


def is_forgotten(records: Iterable[ConsentRecord]) -> bool:
    """Whether the last that one person answered is that they want to be forgotten."""
    return _last(records, _ANSWERS) is ConsentAction.FORGET


def is_refused(records: Iterable[ConsentRecord]) -> bool:
    """Whether the last that one person answered is a no, in any form."""
    return _last(records, _ANSWERS) in _NOES


def is_paused(records: Iterable[ConsentRecord]) -> bool:
    """Whether a person lets their doppelganger rest; their consent stands."""
    return _last(records, _SWITCHES) is ConsentAction.PAUSE


def _last(records: Iterable[ConsentRecord], among: tuple[ConsentAction, ...]) -> ConsentAction | None:
    newest = deque((record.action for record in records if record.action in among), maxlen=1)
    return newest[0] if newest else None


def require_awake(user: User, records: Iterable[ConsentRecord]) -> None:
    """Raise ConsentError where a person lets their doppelganger rest."""
    if is_paused(records):
        raise ConsentError(f"{user.name} has paused their doppelganger; only they can let it answer again.")


def require_consent(user: User, records: Iterable[ConsentRecord]) -> None:
    """Raise ConsentError unless the last answer in the person's `records`, oldest first, is a yes."""
    if not has_consent(records):
        raise ConsentError(
            f"{user.name} has not agreed to a doppelganger; once they have, record it with "
            f"`doppel consent grant {user.id}`."
        )


def require_still(user: User, before: Sequence[ConsentRecord], now: Sequence[ConsentRecord]) -> None:
    """Raise ConsentError unless the consent of `before` stands, and stood all the time: a new yes is a new start."""
    require_consent(user, now)
    if _noes(before) != _noes(now):
        raise ConsentError(f"{user.name} withdrew their consent meanwhile; what was begun before is not used.")


def _noes(records: Iterable[ConsentRecord]) -> int:
    return sum(record.action in _NOES for record in records)


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """Which channels an audience may read: all of them (the operator), the public ones, and others by name."""

    all_channels: bool = False
    public: bool = False
    names: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> ReadPolicy:
        """From a setting: "public", "all", or names and ids separated by commas ("public, #design")."""
        words = [word.strip().lstrip("#") for word in text.split(",")]
        if not all(words):
            raise ConfigError(f'Channels are given as "public", "all" or names separated by commas, not as {text!r}.')
        return cls("all" in words, "public" in words, frozenset(words) - {"all", "public"})

    def readable(self, channels: Iterable[Channel]) -> frozenset[ChannelKey]:
        """Keys of those `channels`, which must be all that there are, that may be read."""
        there = list(channels)
        named = frozenset(c for name in self.names for c in _called(name, there))
        return frozenset((c.team, c.id) for c in there if self._allows(c, named))

    def unknown(self, channels: Iterable[Channel]) -> list[str]:
        """The names that mean none of those `channels`, or several that they may not mean together."""
        there = list(channels)
        return sorted(name for name in self.names if not _called(name, there))

    def _allows(self, channel: Channel, named: Collection[Channel]) -> bool:
        if self.all_channels or channel in named:
            return True
        return self.public and channel.kind is ChannelKind.PUBLIC


def _called(name: str, channels: Sequence[Channel]) -> Sequence[Channel]:
    """The channel that is meant by its id, or else by its name; of several only public ones.

    A direct conversation is named after its people, who may call themselves anything.
    """
    if of_id := [c for c in channels if c.id == name]:
        return of_id
    found = [c for c in channels if c.name == name and c.kind is not ChannelKind.IM]
    return found if len(found) == 1 or all(c.kind is ChannelKind.PUBLIC for c in found) else ()


class Audience(Protocol):
    """Where an answer is read, which decides what it may be made from."""

    def readable(self, channels: Iterable[Channel]) -> frozenset[ChannelKey]:
        """Keys of those `channels` that may be read there."""
        ...


def as_set(members: Collection[str]) -> Set[str]:
    """A channel's members, to look somebody up among them."""
    return members if isinstance(members, frozenset) else frozenset(members)


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is known in one workspace, by id: `full` are all but guests, `bots` are no people. Who is in neither is a
    guest.
    """

    full: frozenset[str]
    bots: frozenset[str]

    @classmethod
    def of(cls, team: str, users: Iterable[User]) -> Roster:
        """Of those of `users` who are of that workspace."""
        known = [user for user in users if user.team == team]
        return cls(
            frozenset(user.id for user in known if not user.is_guest),
            frozenset(user.id for user in known if user.is_bot),
        )

    def changed(self, ids: Iterable[str], now: Roster) -> Roster:
        """The same, where those of `ids` are what they are in `now`, or are gone."""
        gone = frozenset(ids)
        return Roster(self.full - gone | now.full, self.bots - gone | now.bots)

    def without(self, guests: Set[str]) -> Roster:
        """The same, where some are guests."""
        return Roster(self.full - guests, self.bots) if guests else self

    def guests_among(self, people: Set[str]) -> frozenset[str]:
        """Those of `people` who see only the channels that they are in."""
        return frozenset(people - self.full - self.bots)


@dataclass(frozen=True, slots=True)
class Readership:
    """Whoever reads in one place of a workspace: what they may all read may be used there.

    `here` is the channel, "" for a direct message. `people` are ids, without bots; None for everybody in the workspace.
    `guests` are those who see only the channels they are in.
    """

    team: str
    here: str
    people: frozenset[str] | None
    guests: frozenset[str] = frozenset()

    @classmethod
    def of_person(cls, team: str, user: str, users: Iterable[User]) -> Readership:
        """One person alone, as in a direct message; nobody knows what a stranger may read."""
        return cls.alone(team, user, Roster.of(team, users))

    @classmethod
    def of_channel(cls, channel: Channel | None, team: str, users: Iterable[User], asker: str = "") -> Readership:
        """Everybody who is, or may be, in a channel, and who asks. Where nobody knows who is, nothing may be read."""
        return cls.together(channel, team, Roster.of(team, users), asker)

    @classmethod
    def alone(cls, team: str, user: str, roster: Roster) -> Readership:
        """As `of_person`, by the workspace's roster."""
        return cls(team, "", frozenset({user}), frozenset() if user in roster.full else frozenset({user}))

    @classmethod
    def together(cls, channel: Channel | None, team: str, roster: Roster, asker: str = "") -> Readership:
        """As `of_channel`, by the workspace's roster."""
        if channel is None or channel.kind is ChannelKind.UNKNOWN or not channel.members:
            return cls(team, "", frozenset(), frozenset({""}))
        few = {*channel.uncertain, asker} - {""}
        members = as_set(channel.members)
        guests = roster.guests_among(members) | roster.guests_among(few)
        is_open = channel.kind is ChannelKind.PUBLIC
        return cls(team, channel.id, None if is_open else frozenset((members | few) - roster.bots), guests)

    def readable(self, channels: Iterable[Channel]) -> frozenset[ChannelKey]:
        """Keys of those `channels` that everybody here may read."""
        return frozenset((c.team, c.id) for c in channels if c.team == self.team and self._allows(c))

    def _allows(self, channel: Channel) -> bool:
        if channel.kind is ChannelKind.UNKNOWN:
            return False
        if channel.id == self.here:
            return True
        members = as_set(channel.members)
        if channel.kind is ChannelKind.PUBLIC:
            return self.guests <= members
        return bool(self.people) and self.people is not None and self.people <= members


OPERATOR = ReadPolicy(all_channels=True)
"""The operator at the terminal of the machine that holds the archive."""

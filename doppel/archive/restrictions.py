"""What an event forbids before it is written: pure, over the records that the archive hands out.

As long as it isn't known whether a change is newer than what is stored, both may be true, and the narrower holds: who
joins or leaves is uncertain, a channel is as closed as either says, a message that was edited or deleted is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from doppel.records import Channel, ChannelKind, Conversation, Message, User


class Limit(StrEnum):
    """What is uncertain of the subject: a person's membership, a channel, what a message says, a person's rights."""

    MEMBERSHIP = "membership"
    PRIVATE = "private"
    LOST = "lost"
    MESSAGE = "message"
    GUEST = "guest"
    DEACTIVATED = "deactivated"


@dataclass(frozen=True, slots=True)
class Restriction:
    """One limit; `subject` is the id of a person or the timestamp of a message, "" of a channel. It holds no words."""

    team: str
    limit: Limit
    channel: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Restrictions:
    """All that hold at one moment."""

    all: frozenset[Restriction] = frozenset()

    def __or__(self, other: Restrictions) -> Restrictions:
        return Restrictions(self.all | other.all)

    def channels(self, channels: Iterable[Channel]) -> list[Channel]:
        """The channels as far as they are certain."""
        concerned = {(limit.team, limit.channel) for limit in self.all}
        return [self._channel(c) if (c.team, c.id) in concerned else c for c in channels]

    def users(self, users: Iterable[User]) -> list[User]:
        """The people with no more rights than are certain."""
        concerned = {(limit.team, limit.subject) for limit in self.all if not limit.channel}
        return [self._user(user) if (user.team, user.id) in concerned else user for user in users]

    def guests(self, team: str) -> frozenset[str]:
        """The ids of those who may be guests now."""
        return frozenset(limit.subject for limit in self.all if (limit.team, limit.limit) == (team, Limit.GUEST))

    def shows(self, message: Message) -> bool:
        """Whether it is certain that a message still says what is stored."""
        return Restriction(message.team, Limit.MESSAGE, message.channel, message.ts) not in self.all

    def messages(self, messages: Iterable[Message]) -> list[Message]:
        """Those that may be shown."""
        return [message for message in messages if self.shows(message)] if self.all else list(messages)

    def conversation(self, conversation: Conversation) -> Conversation:
        """What is left of a conversation."""
        return replace(conversation, messages=tuple(self.messages(conversation.messages)))

    def _channel(self, channel: Channel) -> Channel:
        mine = [r for r in self.all if (r.team, r.channel) == (channel.team, channel.id)]
        people = {r.subject for r in mine if r.limit is Limit.MEMBERSHIP}
        limits, kind = {r.limit for r in mine}, channel.kind
        if Limit.PRIVATE in limits and kind is ChannelKind.PUBLIC:
            kind = ChannelKind.PRIVATE
        if Limit.LOST in limits:
            kind = ChannelKind.UNKNOWN
        left = (member for member in channel.members if member not in people)
        members = frozenset(left) if isinstance(channel.members, frozenset) else tuple(left)
        return replace(channel, kind=kind, members=members, uncertain=tuple(sorted({*channel.uncertain, *people})))

    def _user(self, user: User) -> User:
        is_guest = Restriction(user.team, Limit.GUEST, subject=user.id) in self.all
        deleted = Restriction(user.team, Limit.DEACTIVATED, subject=user.id) in self.all
        return replace(user, is_guest=user.is_guest or is_guest, deleted=user.deleted or deleted)

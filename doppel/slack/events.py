"""Slack's events to what they change in the archive. Shapes: https://docs.slack.dev/reference/events"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from doppel.records import ChannelKind, Raw
from doppel.slack.members import channel_name, id_of, part_of, text_of
from doppel.slack.messages import timestamp


@dataclass(frozen=True, slots=True)
class Said:
    """A message is new or, where it is `changed`, reads differently now.

    Where it is only for what is `held`, the event doesn't say that it is of a channel: what is known of that decides.
    """

    channel: str
    raw: Raw
    changed: bool = field(default=False, compare=False)
    held: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Deleted:
    """A message is gone; `held` is as in `Said`."""

    channel: str
    ts: str
    held: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Reacted:
    """Someone put a reaction on a message, or took it off."""

    channel: str
    ts: str
    user: str
    name: str
    added: bool


@dataclass(frozen=True, slots=True)
class ChannelChanged:
    """A channel's name, or whether it is archived, is another now; None is left as it was."""

    channel: str
    name: str | None = None
    archived: bool | None = None


@dataclass(frozen=True, slots=True)
class ChannelPrivate:
    """A public channel is private now; that one became public is believed when a sync reads it."""

    channel: str


@dataclass(frozen=True, slots=True)
class ChannelNarrower:
    """An event tells beside something else that a channel isn't public; a sync must read it if it was known as such."""

    channel: str
    kind: ChannelKind


@dataclass(frozen=True, slots=True)
class ChannelLost:
    """The bot can't see a channel any more: it is gone, or the bot is out of it."""

    channel: str


@dataclass(frozen=True, slots=True)
class ChannelMoved:
    """A channel has another id now, as when it is shared with another workspace."""

    channel: str
    now: str


@dataclass(frozen=True, slots=True)
class ChannelUnread:
    """A channel holds what no event told of: a sync must read it."""

    channel: str


@dataclass(frozen=True, slots=True)
class Membership:
    """Someone joined a channel, or left it."""

    channel: str
    user: str
    joined: bool


@dataclass(frozen=True, slots=True)
class PersonChanged:
    """Someone is new in the workspace, or is called otherwise; `raw` is the whole user."""

    raw: Raw


Change = (
    Said
    | Deleted
    | Reacted
    | ChannelChanged
    | ChannelPrivate
    | ChannelNarrower
    | ChannelLost
    | ChannelMoved
    | ChannelUnread
    | Membership
    | PersonChanged
)

TYPES = (
    "message",
    "reaction_added",
    "reaction_removed",
    "channel_rename",
    "channel_archive",
    "channel_unarchive",
    "channel_deleted",
    "channel_left",
    "channel_history_changed",
    "channel_id_changed",
    "group_rename",
    "group_archive",
    "group_unarchive",
    "group_deleted",
    "group_left",
    "group_history_changed",
    "member_joined_channel",
    "member_left_channel",
    "team_join",
    "user_change",
)
"""The events that `changes_of` understands; the app subscribes to these."""

_CONVERSATIONS = {"channel", "group", "mpim"}
"""The `channel_type` of what is archived: nobody's direct messages are."""
_NARROWER = {"group": ChannelKind.PRIVATE, "G": ChannelKind.PRIVATE, "mpim": ChannelKind.MPIM}
"""What the `channel_type` of an event says of a channel that isn't public; of joins and leaves it is a letter."""
_ENVELOPE = ("channel", "channel_type", "event_ts")
_SPEAKERS = ("user", "bot_id", "username", "comment")


def changes_of(event: Raw, bot_user: str) -> list[Change]:
    """What one event changes, in order; nothing for an event of another kind, or one that is not whole."""
    changes = _changes_of(event, bot_user)
    return [*_narrower(event, changes), *changes]


def _narrower(event: Raw, changes: Sequence[Change]) -> Iterator[Change]:
    """That the channel of an event isn't public, where the event says so."""
    kind = _NARROWER.get(text_of(event, "channel_type"))
    if text_of(event, "type").startswith("group_"):
        kind = ChannelKind.PRIVATE
    for change in changes[:1]:
        if kind and not isinstance(change, ChannelPrivate | PersonChanged):
            yield ChannelNarrower(change.channel, kind)


def _changes_of(event: Raw, bot_user: str) -> list[Change]:
    kind = text_of(event, "type")
    if kind == "message":
        return _message(event)
    if kind in ("reaction_added", "reaction_removed"):
        return _reaction(event, added=kind == "reaction_added")
    if kind in ("member_joined_channel", "member_left_channel"):
        return _membership(event, bot_user, joined=kind == "member_joined_channel")
    if kind in ("team_join", "user_change"):
        return [PersonChanged(user)] if isinstance(user := event.get("user"), dict) and id_of(user, "id") else []
    return _channel(kind.partition("_")[2], event)


def _message(event: Raw) -> list[Change]:
    channel, subtype = id_of(event, "channel"), text_of(event, "subtype")
    held = text_of(event, "channel_type") not in _CONVERSATIONS
    if not channel or subtype == "message_replied":
        return []
    if subtype == "message_deleted" or "deleted_ts" in event:
        ts = timestamp(event.get("deleted_ts")) or timestamp(part_of(event, "previous_message").get("ts"))
        return [Deleted(channel, ts, held)] if ts else []
    raw = _changed(event) if subtype == "message_changed" else _new(event, held)
    if raw is None or timestamp(raw.get("ts")) is None:
        return []
    shown = {key: value for key, value in raw.items() if key not in _ENVELOPE}
    said = Said(channel, shown, subtype == "message_changed", held)
    if subtype == "channel_convert_to_private":
        return [ChannelPrivate(channel), said]
    return [said]


def _changed(event: Raw) -> Raw | None:
    """A message as it reads now; when it was said, and by whom, doesn't change."""
    raw, before = event.get("message"), part_of(event, "previous_message")
    if not isinstance(raw, dict):
        return None
    return raw | {key: before[key] for key in missing_of(raw) if key in before}


def missing_of(raw: Raw) -> list[str]:
    """What a message as it reads now must have from before, as it doesn't say it."""
    is_somebodys = any(raw.get(key) for key in _SPEAKERS) or raw.get("subtype") == "tombstone"
    return [*([] if raw.get("ts") else ["ts"]), *([] if is_somebodys else ["user"])]


def _new(event: Raw, held: bool) -> Raw | None:
    """A new message; None for the news of another one, such as that it has replies, and for a direct message."""
    is_direct = held and text_of(event, "channel_type")
    return None if is_direct or isinstance(event.get("message"), dict) else event


def _reaction(event: Raw, added: bool) -> list[Change]:
    item = event.get("item")
    if not isinstance(item, dict) or item.get("type") != "message":
        return []
    channel, ts = id_of(item, "channel"), timestamp(item.get("ts"))
    user, name = id_of(event, "user"), text_of(event, "reaction")
    return [Reacted(channel, ts, user, name, added)] if channel and ts and user and name else []


def _membership(event: Raw, bot_user: str, joined: bool) -> list[Change]:
    channel, user = id_of(event, "channel"), id_of(event, "user")
    if not channel or not user:
        return []
    if user == bot_user:
        return [ChannelUnread(channel) if joined else ChannelLost(channel)]
    return [Membership(channel, user, joined)]


def _channel(what: str, event: Raw) -> list[Change]:
    """The events that channels (`channel_…`) and private channels (`group_…`) share."""
    if what == "id_changed":
        old, new = id_of(event, "old_channel_id"), id_of(event, "new_channel_id")
        return [ChannelMoved(old, new)] if old and new and old != new else []
    place = event.get("channel")
    channel = id_of(place, "id") if isinstance(place, dict) else id_of(event, "channel")
    if not channel:
        return []
    match what:
        case "rename" if isinstance(place, dict) and (name := channel_name(text_of(place, "name"))):
            return [ChannelChanged(channel, name=name)]
        case "archive" | "unarchive":
            return [ChannelChanged(channel, archived=what == "archive")]
        case "deleted" | "left":
            return [ChannelLost(channel)]
        case "history_changed":
            return [ChannelUnread(channel)]
    return []

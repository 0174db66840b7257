"""One Slack message, wherever it comes from (export, API, event), to one record."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from doppel.ids import is_id
from doppel.plain_text import storable
from doppel.records import Message, MessageKind, Raw, ts_key
from doppel.slack.markup import NO_NAMES, Names
from doppel.slack.members import part_of
from doppel.slack.message_text import MessageText, read_message

SLACKBOT = "USLACKBOT"
_SAID_BY_PEOPLE = {None, "thread_broadcast", "reply_broadcast", "me_message", "file_share", "file_comment"}
_LATEST_SECOND = 10**11


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """A translated message. `edited` is the timestamp of its last edit, "" if there was none.

    The record's `author` is what the message itself says, for authors that no user list names.
    """

    record: Message
    subtype: str | None
    edited: str


def translate(
    raw: Raw, team: str, channel: str, names: Names = NO_NAMES, bots: Collection[str] = ()
) -> SlackMessage | None:
    """The record of `raw`, or None if it has no valid `ts`; `bots` are the ids of users that are bots."""
    ts = timestamp(raw.get("ts"))
    if ts is None:
        return None
    subtype, user = _text(raw.get("subtype")) or None, _user(raw)
    kind = _kind(raw, subtype, user, bots, names)
    read = MessageText("") if subtype == "tombstone" else read_message(raw, names.within(channel))
    record = Message(
        team=team,
        channel=channel,
        ts=ts,
        author=_author(raw, user, by_app=kind is not MessageKind.HUMAN),
        text=read.text,
        kind=kind,
        user=user,
        thread_ts=timestamp(raw.get("thread_ts")),
        said=read.said,
    )
    return SlackMessage(record, subtype, timestamp(part_of(raw, "edited").get("ts")) or "")


def timestamp(value: object) -> str | None:
    """A Slack timestamp as its text, or None for what is none; some tools write it as a number."""
    if isinstance(value, float) and math.isfinite(value):
        value = f"{value:.6f}"
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < _LATEST_SECOND else ""
    try:
        return value if isinstance(value, str) and ts_key(value)[0] < _LATEST_SECOND else None
    except ValueError:
        return None


def _kind(raw: Raw, subtype: str | None, user: str | None, bots: Collection[str], names: Names) -> MessageKind:
    if user == SLACKBOT or (subtype != "bot_message" and subtype not in _SAID_BY_PEOPLE):
        return MessageKind.SYSTEM
    if subtype == "bot_message" or user in bots:
        return MessageKind.BOT
    if user is None:
        return MessageKind.BOT if raw.get("username") or raw.get("bot_id") else MessageKind.SYSTEM
    return MessageKind.BOT if raw.get("bot_id") and not _posted_by_person(raw, user, names) else MessageKind.HUMAN


def _user(raw: Raw) -> str | None:
    """Who said it; what is no id as Slack gives them is nobody."""
    user = _text(raw.get("user")) or _text(part_of(raw, "comment").get("user"))
    return user if is_id(user) else None


def _posted_by_person(raw: Raw, user: str, names: Names) -> bool:
    """Whether what came through an app is a person's, who gave it their own token: it bears no name but theirs.

    Slack puts the app's `bot_id` on it all the same; a bot's own posts bear the id of its bot user, or none. Who is in
    no list may be such a bot.
    """
    if user not in names.users:
        return False
    profile, named = part_of(raw, "user_profile"), _text(raw.get("username"))
    known = (names.users[user], user, *(_text(profile.get(key)) for key in ("display_name", "real_name", "name")))
    return not named or named.casefold() in (name.casefold() for name in known)


def _author(raw: Raw, user: str | None, by_app: bool) -> str:
    """The name a message brings along: a bot's, or that of a guest from another workspace."""
    if name := _text(raw.get("username")):
        return name
    through_app = bool(raw.get("bot_id"))
    if (by_app or not through_app) and (name := _text(part_of(raw, "bot_profile").get("name"))):
        return name
    if not (by_app and through_app) and user != SLACKBOT and (profile := part_of(raw, "user_profile")):
        names = (_text(profile.get(key)) for key in ("display_name", "real_name", "name"))
        if name := next((name for name in names if name), ""):
            return name
    return user or _text(raw.get("bot_id"))


def _text(value: object) -> str:
    return storable(value) if isinstance(value, str) else ""

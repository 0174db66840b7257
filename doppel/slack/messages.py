"""One Slack message, wherever it comes from (export, API, event), to one record."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from doppel.ids import is_id
from doppel.records import Message, MessageKind, ts_key
from doppel.slack.markup import NO_NAMES, Names, Raw, clean, render_message

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
    record = Message(
        team=team,
        channel=channel,
        ts=ts,
        author=_author(raw, user),
        text="" if subtype == "tombstone" else render_message(raw, names.within(channel)),
        kind=_kind(raw, subtype, user, bots),
        user=user,
        thread_ts=timestamp(raw.get("thread_ts")),
    )
    return SlackMessage(record, subtype, timestamp(_dict(raw.get("edited")).get("ts")) or "")


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


def _kind(raw: Raw, subtype: str | None, user: str | None, bots: Collection[str]) -> MessageKind:
    if user == SLACKBOT or (subtype != "bot_message" and subtype not in _SAID_BY_PEOPLE):
        return MessageKind.SYSTEM
    if subtype == "bot_message" or raw.get("bot_id") or user in bots:
        return MessageKind.BOT
    if user is None:
        return MessageKind.BOT if raw.get("username") else MessageKind.SYSTEM
    return MessageKind.HUMAN


def _user(raw: Raw) -> str | None:
    """Who said it; what is no id as Slack gives them is nobody."""
    user = _text(raw.get("user")) or _text(_dict(raw.get("comment")).get("user"))
    return user if is_id(user) else None


def _author(raw: Raw, user: str | None) -> str:
    """The name a message brings along: a bot's, or that of a guest from another workspace."""
    bot, profile = _dict(raw.get("bot_profile")), _dict(raw.get("user_profile"))
    candidates = [raw.get("username"), bot.get("name")]
    if not raw.get("bot_id") and user != SLACKBOT:
        candidates += [profile.get("display_name"), profile.get("real_name"), profile.get("name")]
    candidates += [user, raw.get("bot_id")]
    return next((text for text in map(_text, candidates) if text), "")


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _dict(value: object) -> Raw:
    return value if isinstance(value, dict) else {}

"""Slack's event -> the question it asks. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from doppel.records import Raw
from doppel.slack.block_text import dicts
from doppel.slack.members import id_of, text_of
from doppel.slack.messages import timestamp

MAX_PANEL = 5
PERSON = r"<@([UW][A-Z0-9]+)(?:\|[^>]{0,100})?>"
"""The mention of somebody, with their id as its group."""
_AS = re.compile(rf"as\s+{PERSON}[\s,:]*", re.IGNORECASE)
_PANEL = re.compile(rf"panel((?:[\s,]+(?:and\s+)?{PERSON})+)[\s,:]*", re.IGNORECASE)
_SAID = ("", "file_share", "thread_broadcast")


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks. The answer goes into the thread of `thread_ts`.

    `text` is Slack's markup without the mention of the bot, `shown` the message's tables, forwards and files, as Slack
    sends them; `people` are ids of those who are asked by name; `direct` says that nobody else reads along; `addressed`
    is False for what merely stands in a thread.
    """

    channel: str
    ts: str
    thread_ts: str
    asker: str
    text: str
    people: tuple[str, ...]
    direct: bool
    addressed: bool
    shown: Raw = field(default_factory=dict)


def kept(question: Question) -> dict[str, Any]:
    """A question as it is kept until it is answered, in Slack's words where there are any."""
    return {
        **question.shown,
        "channel": question.channel,
        "ts": question.ts,
        "thread_ts": question.thread_ts,
        "user": question.asker,
        "text": question.text,
        "people": list(question.people),
        "direct": question.direct,
        "addressed": question.addressed,
    }


def question_from(raw: Raw, bot_user: str) -> Question | None:
    """The question that was kept; before there was `kept`, that was its event."""
    if "people" not in raw:
        return question_of(raw, bot_user)
    return Question(
        channel=raw["channel"],
        ts=raw["ts"],
        thread_ts=raw["thread_ts"],
        asker=raw["user"],
        text=raw["text"],
        people=tuple(raw["people"]),
        direct=raw["direct"],
        addressed=raw["addressed"],
        shown=_shown(raw),
    )


def question_of(event: Raw, bot_user: str) -> Question | None:
    """The question of an event, or None: bots, edits and what is said to others ask nothing."""
    kind, channel, asker = text_of(event, "type"), id_of(event, "channel"), id_of(event, "user")
    ts = timestamp(event.get("ts"))
    by_bot = event.get("bot_id") or asker in ("", bot_user) or text_of(event, "subtype") not in _SAID
    if kind not in ("app_mention", "message") or ts is None or not channel or by_bot:
        return None
    thread_ts, text = timestamp(event.get("thread_ts")), text_of(event, "text")
    direct = text_of(event, "channel_type") == "im"
    mentioned = kind == "app_mention"
    is_reply = thread_ts is not None and thread_ts != ts
    # A message that mentions the bot comes once more, as an app_mention.
    if not (mentioned or direct or (is_reply and f"<@{bot_user}" not in text)):
        return None
    people, text = asked_of(re.sub(rf"<@{bot_user}(?:\|[^>]{{0,100}})?>[\s,:]*", " ", text).strip())
    return Question(channel, ts, thread_ts or ts, asker, text, people, direct, mentioned or direct, _shown(event))


def _shown(event: Raw) -> Raw:
    """What stands beside the text of a message; its rich text says the same, with the mention."""
    others = [b for b in dicts(event.get("blocks")) if b.get("type") != "rich_text"]
    shown = {key: event[key] for key in ("attachments", "files", "file") if event.get(key)}
    return {**shown, "blocks": others} if others else shown


def asked_of(text: str) -> tuple[tuple[str, ...], str]:
    """Who is asked by name, and the rest: `as @erik …`, or `panel @a @b @c …`."""
    if match := _AS.match(text):
        return (match[1],), text[match.end() :].strip()
    if match := _PANEL.match(text):
        return tuple(dict.fromkeys(re.findall(PERSON, match[1])))[:MAX_PANEL], text[match.end() :].strip()
    return (), text

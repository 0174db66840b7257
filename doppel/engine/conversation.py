"""Messages to conversations (threads, and windows of time where there are none) and to turns of a prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from doppel.records import (
    Channel,
    ChannelKind,
    Conversation,
    Dialogue,
    Message,
    MessageKind,
    Span,
    Turn,
    ts_key,
    ts_seconds,
)

GAP_SECONDS = 2 * 60 * 60
MIN_WINDOW = 2
MAX_WINDOW = 40


def conversations(messages: Iterable[Message]) -> Iterator[Conversation]:
    """Conversations of people in `messages`, which come channel by channel, each in the order of time.

    A message with a reply, and its replies, are a thread. What is left of a channel falls into windows: one closes at
    a gap of two hours once it holds two messages, and at forty messages in any case. So a message that stands alone
    opens the next window and is not lost; only a channel's last one can stay alone. Bots and system messages are left
    out. Conversations of a channel come in the order of their first message.
    """
    for (team, channel), group in groupby(messages, key=lambda m: (m.team, m.channel)):
        said = [m for m in group if m.kind is MessageKind.HUMAN and m.text.strip()]
        found = [Conversation(team, channel, root, tuple(part)) for root, part in _parts(said)]
        yield from sorted(found, key=lambda c: ts_key(c.first_ts))


def with_posts(conversation: Conversation, posts: Iterable[Message]) -> Conversation:
    """A conversation with what was said in it through Doppel: in its thread, or in between where it is a window."""
    mine = [p for p in posts if (p.team, p.channel) == (conversation.team, conversation.channel)]
    if conversation.thread_ts is not None:
        mine = [p for p in mine if p.thread_ts == conversation.thread_ts]
    elif conversation.messages:
        first, last = ts_key(conversation.first_ts), ts_key(conversation.last_ts)
        mine = [p for p in mine if p.thread_ts is None and first <= ts_key(p.ts) <= last]
    else:
        mine = []
    if not mine:
        return conversation
    return replace(conversation, messages=tuple(sorted((*conversation.messages, *mine), key=lambda m: ts_key(m.ts))))


def turns(messages: Sequence[Message], user_id: str) -> tuple[Turn, ...]:
    """What was said, as turns of a prompt in which `user_id` answers; what their doppelganger said is theirs too."""
    return tuple(Turn(m.author, m.text, m.user == user_id, m.by_ai) for m in messages)


def dialogue(said: Sequence[Turn], conversation: Conversation, channel: Channel | None, ts: str = "") -> Dialogue:
    """The dialogue of turns that open a conversation, which stands in `channel`; the question was asked at `ts`."""
    name = channel.name if channel and channel.kind not in (ChannelKind.IM, ChannelKind.MPIM) else ""
    messages = conversation.messages
    first, last = (messages[0].ts if messages else ts), (ts or messages[-1].ts)
    span = Span(conversation.team, conversation.channel, conversation.thread_ts, first, last)
    return Dialogue(tuple(said), name, span=span)


def _parts(said: list[Message]) -> Iterator[tuple[str | None, list[Message]]]:
    roots = {m.thread_ts for m in said if m.thread_ts and m.thread_ts != m.ts}
    threads: dict[str, list[Message]] = {}
    flat: list[Message] = []
    for message in said:
        root = message.thread_ts or message.ts
        if root in roots:
            threads.setdefault(root, []).append(message)
        else:
            flat.append(message)
    yield from threads.items()
    for window in _windows(flat):
        yield None, window


def _windows(flat: list[Message]) -> Iterator[list[Message]]:
    window: list[Message] = []
    for message in flat:
        gap = bool(window) and ts_seconds(message.ts) - ts_seconds(window[-1].ts) >= GAP_SECONDS
        if len(window) >= MAX_WINDOW or (gap and len(window) >= MIN_WINDOW):
            yield window
            window = []
        window.append(message)
    if window:
        yield window

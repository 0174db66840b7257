"""Messages to conversations: threads, and time windows where there are no threads. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from doppel.records import Conversation, Message, MessageKind, ts_key, ts_seconds

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

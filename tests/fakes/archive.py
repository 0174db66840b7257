"""An archive in memory, as far as indexing and retrieval read one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from doppel.access import ChannelKey
from doppel.engine.conversation import conversations
from doppel.records import Channel, ChannelKind, Chunk, Conversation, Message, ts_key


class FakeArchive:
    """Messages in a list that a test may change; `said` adds one."""

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.stored = list(messages)
        self._clock = count(1_700_000_000)

    def said(self, text: str, author: str = "Ada", channel: str = "C1", thread_ts: str | None = None) -> Message:
        """Add a message, a second after the last; it opens a conversation of its own unless it is in a thread."""
        ts = f"{next(self._clock)}.000100"
        message = Message("T1", channel, ts, author, text, user=f"U{author}", thread_ts=thread_ts)
        self.stored.append(message)
        return message

    def messages(self) -> Iterator[Message]:
        yield from sorted(self.stored, key=lambda m: (m.team, m.channel, ts_key(m.ts)))

    def revision(self) -> int:
        return len(self.stored)

    def clean_revision(self) -> int:
        return 0

    def channels(self) -> list[Channel]:
        keys = sorted({(m.team, m.channel) for m in self.stored})
        return [Channel(team, channel, f"name-of-{channel}", ChannelKind.PUBLIC) for team, channel in keys]

    def conversation(self, team: str, channel: str, thread_ts: str | None, first_ts: str, last_ts: str) -> Conversation:
        first, last = ts_key(first_ts), ts_key(last_ts)
        here = (c for c in conversations(self.messages()) if (c.team, c.channel) == (team, channel))
        said = [m for c in here if c.thread_ts == thread_ts for m in c.messages]
        if thread_ts is None:
            said = [m for m in said if first <= ts_key(m.ts) <= last]
        else:
            said = [m for m in said if thread_ts in (m.thread_ts, m.ts)]
        return Conversation(team, channel, thread_ts, tuple(said))

    def snapshot(self) -> FakeArchive:
        """It is what it is."""
        return self

    def channel(self, key: ChannelKey) -> Channel | None:
        return next((channel for channel in self.channels() if (channel.team, channel.id) == key), None)

    def conversations(self, chunks: Sequence[Chunk]) -> list[Conversation]:
        spans = [(c.team, c.channel, c.thread_ts, c.conversation_first_ts, c.conversation_last_ts) for c in chunks]
        return [self.conversation(*span) for span in spans]

    def permalink(self, channel: ChannelKey, ts: str, thread_ts: str | None = None) -> str:
        return f"https://acme.slack.com/archives/{channel[1]}/p{ts.replace('.', '')}"

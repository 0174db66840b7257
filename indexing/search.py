"""What `doppel search` finds, as plain rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from doppel.access import OPERATOR
from doppel.records import Channel, Hit
from indexing.retrieve import ConversationSource, Excerpt, IndexRetriever, excerpts


class Source(ConversationSource, Protocol):
    """What is read of the archive, as of one moment."""

    @property
    def channels(self) -> Iterable[Channel]:
        """All channels."""
        ...


def search_rows(retriever: IndexRetriever, source: Source, query: str, k: int) -> list[dict[str, Any]]:
    """The best `k` chunks for the operator, who may read every channel, best first, as the archive has them now."""
    channels = {(channel.team, channel.id): channel for channel in source.channels}
    hits = retriever.search(query, OPERATOR.readable(channels.values()), k)
    found = excerpts(source, [hit.chunk for hit in hits])
    there = [(hit, each) for hit, each in zip(hits, found, strict=True) if each]
    return [_row(hit, each, channels[hit.chunk.team, hit.chunk.channel], source) for hit, each in there]


def _row(hit: Hit, found: Excerpt, channel: Channel, source: Source) -> dict[str, Any]:
    first, last = found.messages[0], found.messages[-1]
    return {
        "text": found.quote,
        "channel": channel.name,
        "channel_id": channel.id,
        "thread_ts": hit.chunk.thread_ts,
        "first_ts": first.ts,
        "last_ts": last.ts,
        "authors": list(dict.fromkeys(message.author for message in found.messages)),
        "score": hit.score,
        "permalink": source.permalink((channel.team, channel.id), first.ts, hit.chunk.thread_ts),
    }

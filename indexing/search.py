"""What `doppel search` finds, as plain rows."""

from __future__ import annotations

from typing import Any

from doppel.access import OPERATOR
from doppel.records import Channel, Hit
from indexing.retrieve import ConversationSource, IndexRetriever, excerpt


def search_rows(retriever: IndexRetriever, archive: ConversationSource, query: str, k: int) -> list[dict[str, Any]]:
    """The best `k` chunks for the operator, who may read every channel, best first, as the archive has them now."""
    channels = {(channel.team, channel.id): channel for channel in archive.channels()}
    hits = retriever.search(query, OPERATOR.readable(channels.values()), k)
    rows = (_row(hit, channels[hit.chunk.team, hit.chunk.channel], archive) for hit in hits)
    return [row for row in rows if row]


def _row(hit: Hit, channel: Channel, archive: ConversationSource) -> dict[str, Any] | None:
    found = excerpt(archive, hit.chunk)
    if found is None:
        return None
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
        "permalink": archive.permalink((channel.team, channel.id), first.ts, hit.chunk.thread_ts),
    }

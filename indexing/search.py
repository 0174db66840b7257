"""What `doppel search` finds, as plain rows."""

from __future__ import annotations

from typing import Any

from doppel.access import OPERATOR
from doppel.records import Channel, Hit
from indexing.retrieve import ConversationSource, IndexRetriever


def search_rows(retriever: IndexRetriever, archive: ConversationSource, query: str, k: int) -> list[dict[str, Any]]:
    """The best `k` chunks for the operator, who may read every channel, best first."""
    channels = {(channel.team, channel.id): channel for channel in archive.channels()}
    hits = retriever.search(query, OPERATOR.readable(channels.values()), k)
    return [_row(hit, channels[hit.chunk.team, hit.chunk.channel], archive) for hit in hits]


def _row(hit: Hit, channel: Channel, archive: ConversationSource) -> dict[str, Any]:
    chunk = hit.chunk
    return {
        "text": chunk.text,
        "channel": channel.name,
        "channel_id": channel.id,
        "thread_ts": chunk.thread_ts,
        "first_ts": chunk.first_ts,
        "last_ts": chunk.last_ts,
        "authors": list(chunk.authors),
        "score": hit.score,
        "permalink": archive.permalink((chunk.team, chunk.channel), chunk.first_ts, chunk.thread_ts),
    }

"""From a question to the conversations that may answer it, within what may be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from doppel.access import ChannelKey
from doppel.artifacts import VersionedFolder
from doppel.engine.prompt import line
from doppel.errors import ArtifactError
from doppel.records import Channel, Chunk, Conversation, Hit, Message, Passage, Query, Span, ts_key
from indexing import FORMAT
from indexing.chunk import chunk
from indexing.embed import Embedder, unit
from indexing.vectors import FaissVectorStore


class ConversationSource(Protocol):
    """What is read of the archive, as of one moment."""

    def channel(self, key: ChannelKey) -> Channel | None:
        """The channel of that key."""
        ...

    def conversations(self, chunks: Sequence[Chunk]) -> list[Conversation]:
        """The conversation of each chunk as it stands now; without messages where they are gone."""
        ...

    def permalink(self, channel: ChannelKey, ts: str, thread_ts: str | None) -> str:
        """The address of a message in Slack."""
        ...


class Archive(Protocol):
    """Where conversations are."""

    def snapshot(self) -> ConversationSource:
        """All workspaces as of now."""
        ...


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A chunk as the archive has it now: its conversation, the range of the messages it covers, and what they say."""

    conversation: Conversation
    focus: tuple[int, int]
    quote: str

    @property
    def messages(self) -> tuple[Message, ...]:
        """Those that the chunk covers."""
        return self.conversation.messages[slice(*self.focus)]


def excerpts(source: ConversationSource, chunks: Sequence[Chunk]) -> list[Excerpt | None]:
    """What is left of chunks; None for one of which all that it covers is gone."""
    found = source.conversations(chunks)
    return [_excerpt(conversation, cut) for conversation, cut in zip(found, chunks, strict=True)]


def _excerpt(conversation: Conversation, cut: Chunk) -> Excerpt | None:
    start, stop = focus = _focus(conversation, cut)
    return Excerpt(conversation, focus, _quote(conversation, cut, focus)) if start < stop else None


@dataclass(frozen=True, slots=True)
class _Loaded:
    name: str
    store: FaissVectorStore


class IndexRetriever:
    """Searches the current version of an index, and takes up a newer one as soon as it is published.

    Safe to call from several threads; a search that is under way ends in the version it began in.
    """

    def __init__(self, folder: VersionedFolder, embedder: Embedder, archive: Archive) -> None:
        """Nothing is loaded before the first search."""
        self._folder = folder
        self._embedder = embedder
        self._archive = archive
        self._loaded: _Loaded | None = None
        self._lock = Lock()

    def search(self, query: str, channels: frozenset[ChannelKey], k: int) -> list[Hit]:
        """The best `k` chunks of `channels`, best first. Raises ArtifactError without a sound index."""
        return self._store().best(self._embedder.encode_queries([query]), [Query(query)], channels, k)

    def retrieve(self, query: str, channels: frozenset[ChannelKey], k: int) -> list[Passage]:
        """As `look_up` for one query and one scope, in the archive as of now."""
        return self.look_up([Query(query)], [channels], k, self._archive.snapshot())[0]

    def look_up(
        self,
        queries: Sequence[Query],
        scopes: Sequence[frozenset[ChannelKey]],
        k: int,
        source: ConversationSource,
        exclude: Span | None = None,
    ) -> list[list[Passage]]:
        """For each scope the conversations around the best `k` chunks of its channels, best first, each once.

        All `queries` of the question, at least one, are embedded in one batch, and their hits fused. Each scope is
        searched by itself, so that nothing outside of it moves what is found. The conversation at `exclude`, which is
        being answered, is left out before the ranking. Conversations are read as they stand: what was deleted after
        the index was built is not in them. Raises ArtifactError without a sound index.
        """
        store, vectors = self._store(), self._embedder.encode_queries([query.text for query in queries])
        without = store.rows_of(exclude) if exclude else []
        hits = {scope: store.best(vectors, queries, scope, k, without) for scope in dict.fromkeys(scopes)}
        found = {scope: _each_once(best) for scope, best in hits.items()}
        chunks = list(dict.fromkeys(hit.chunk for hits in found.values() for hit in hits))
        read = dict(zip(chunks, excerpts(source, chunks), strict=True))
        shown = {scope: [_passage(hit, read[hit.chunk], source) for hit in hits] for scope, hits in found.items()}
        return [[passage for passage in shown[scope] if passage] for scope in scopes]

    def likeness(self, text: str, others: Sequence[str]) -> list[float]:
        """The cosine of a text and each of `others`."""
        first, *rest = unit(self._embedder.encode_queries([text, *others]))
        return [float(first @ other) for other in rest]

    def _store(self) -> FaissVectorStore:
        """The current version's store, loaded anew where CURRENT names another than before."""
        with self._lock:
            while self._loaded is None or self._loaded.name != self._folder.current_name():
                name = self._folder.current_name()
                try:
                    self._loaded = self._load(name)
                except ArtifactError:
                    # While it was read, newer versions may have come and pushed it out.
                    if name == self._folder.current_name():
                        raise
            return self._loaded.store

    def _load(self, name: str | None) -> _Loaded:
        if name is None:
            raise ArtifactError("There is no index yet; run `doppel reindex`.")
        version = self._folder.load(name)
        if version.info.get("format") != FORMAT:
            raise ArtifactError("The index is of another version of Doppel; run `doppel reindex`.")
        if version.info.get("model") != self._embedder.model_id:
            raise ArtifactError(
                f"The index was built with another embedding model ({version.info.get('model')}); run `doppel reindex`."
            )
        return _Loaded(name, FaissVectorStore.published(self._folder, version, self._embedder))


def _each_once(hits: Iterable[Hit]) -> list[Hit]:
    """The best hit of each conversation."""
    best: dict[tuple[str, str, str], Hit] = {}
    for hit in hits:
        best.setdefault(_conversation_key(hit.chunk), hit)
    return list(best.values())


def _place(hit: Hit) -> ChannelKey:
    return hit.chunk.team, hit.chunk.channel


def _passage(hit: Hit, found: Excerpt | None, source: ConversationSource) -> Passage | None:
    if found is None:
        return None
    cut, conversation, place = hit.chunk, found.conversation, _place(hit)
    channel = source.channel(place)
    return Passage(
        channel_name=channel.name if channel else cut.channel,
        thread_ts=cut.thread_ts,
        first_ts=conversation.first_ts,
        last_ts=conversation.last_ts,
        lines=tuple(line(message.author, message.text) for message in conversation.messages),
        focus=found.focus,
        quote=found.quote,
        permalink=source.permalink(place, found.messages[0].ts, cut.thread_ts),
        score=hit.score,
        best_score=hit.best_score,
        word_rank=hit.word_rank,
        stamps=tuple(message.ts for message in conversation.messages),
        fused_score=hit.fused_score,
    )


def _conversation_key(cut: Chunk) -> tuple[str, str, str]:
    return cut.team, cut.channel, cut.thread_ts or cut.conversation_first_ts


def _focus(conversation: Conversation, cut: Chunk) -> tuple[int, int]:
    """The range of the messages that the chunk covers; empty where all of them are gone."""
    first, last = ts_key(cut.first_ts), ts_key(cut.last_ts)
    covered = [i for i, message in enumerate(conversation.messages) if first <= ts_key(message.ts) <= last]
    return (covered[0], covered[-1] + 1) if covered else (0, 0)


def _quote(conversation: Conversation, cut: Chunk, focus: tuple[int, int]) -> str:
    """The chunk's text, or what its messages say now if they were edited since."""
    if any(cut.id == now.id for now in chunk(conversation)):
        return cut.text
    return "\n".join(line(message.author, message.text) for message in conversation.messages[slice(*focus)])

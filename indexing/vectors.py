"""Vectors and the search among them: a LangChain `VectorStore` over FAISS, and sole owner of FAISS.

Every search is told the channels that may be read. They go into FAISS as a bitmap of rows, so what may not be read is
never scored, and the best k of what may be read are found however few they are. The index is exact (no graph, no
clusters: those lose recall under a narrow selector) and holds float16, which on text embeddings finds the same
neighbours as float32 in half the memory, faster.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import RLock
from typing import Any

import faiss
import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from numpy.typing import NDArray

from doppel.access import ChannelKey
from doppel.artifacts import Version, VersionedFolder, storage_error
from doppel.errors import ArtifactError, NotReadableError
from doppel.records import Hit, Query, Span
from indexing.documents import Documents, Entry
from indexing.embed import Vectors, unit

INDEX_FILE = "index.faiss"
DOCUMENTS_FILE = "documents.sqlite"

DEPTH = 20
"""How many rows of each order are fused, at least."""
RANK_OFFSET = 10
"""The constant of reciprocal rank fusion: small, so that what leads either order leads."""

NO_CHANNEL: ChannelKey = ("", "")
"""Where documents stand that come from no channel. Like any other, it is read only where it is named."""

Channels = frozenset[ChannelKey]

_faiss: Any = faiss  # its stubs know the signatures of C++, not those of Python


class FaissVectorStore(VectorStore):
    """Documents found by the cosine similarity of their embeddings, within the channels that may be read.

    A document whose metadata has `team` and `channel` belongs to that channel, any other to NO_CHANNEL. The `channels`
    of the store hold where a call names none; with neither, reading raises NotReadableError. A store from `published`
    is read-only.
    """

    def __init__(
        self,
        embedding: Embeddings,
        *,
        channels: Channels | None = None,
        documents: Documents | None = None,
        index: Any = None,
    ) -> None:
        """An empty store in memory, or a read-only one over `documents` and their FAISS `index`."""
        self._embedding = embedding
        self._channels = channels
        self._documents = Documents.new() if documents is None else documents
        self._codes, self._code_of_row = self._documents.channel_codes()
        self._index = index
        self._read_only = documents is not None
        # FAISS searches side by side, but not beside a change.
        self._lock: AbstractContextManager[Any] = nullcontext() if self._read_only else RLock()

    @classmethod
    def published(
        cls, folder: VersionedFolder, version: Version, embedding: Embeddings, *, channels: Channels | None = None
    ) -> FaissVectorStore:
        """A version of an index, its files compared with their checksums. Raises ArtifactError."""
        try:
            folder.verify(version)
            index = faiss.read_index(str(version.path / INDEX_FILE))
            documents = Documents.open(version.path / DOCUMENTS_FILE)
            store = cls(embedding, channels=channels, documents=documents, index=index)
        except sqlite3.Error as error:
            raise folder.damaged(version.name, DOCUMENTS_FILE) from error
        except (OSError, RuntimeError) as error:
            raise folder.damaged(version.name, INDEX_FILE) from error
        if index.ntotal != len(documents):
            raise folder.damaged(version.name, INDEX_FILE)
        return store

    @property
    def embeddings(self) -> Embeddings:
        """What turns texts into vectors."""
        return self._embedding

    @property
    def documents(self) -> Documents:
        """The texts behind the vectors."""
        return self._documents

    @property
    def dimensions(self) -> int:
        """Length of a vector; 0 while nothing was ever added."""
        return int(self._index.d) if self._index is not None else 0

    def nearest(self, query: Vectors, channels: Channels, k: int) -> list[Hit]:
        """The best `k` chunks of `channels`, best first, equals in the order of the index.

        `query` has shape (dimensions,) and any length but 0. Fewer hits where `channels` hold fewer.
        """
        return [Hit(entry.chunk(), score) for entry, score, _ in self._nearest(query, channels, k)]

    def best(
        self, vectors: Vectors, queries: Sequence[Query], channels: Channels, k: int, without: Sequence[int] = ()
    ) -> list[Hit]:
        """The best `k` chunks of `channels` by their vectors and by the words in them, best first.

        Each query ranks them in both ways, and whatever stands high in any order stands high (reciprocal rank fusion,
        Cormack et al., SIGIR 2009, by the queries' weights); scores are cosines nevertheless. `vectors` has shape
        (len(queries), dimensions), of the same texts. Rows in `without` stand in no order.
        """
        depth = max(k, DEPTH)
        near = [[row for row, _ in found] for found in self._rows(vectors, channels, depth, without)]
        said = [self._documents.matching(query.text, channels, depth, without) for query in queries]
        weights = [query.weight for query in queries]
        fused = _fused([*zip(weights, near, strict=True), *zip(weights, said, strict=True)])
        rows = list(fused)[:k]
        entries = self._documents.entries(rows)
        cosines: Vectors = self._reconstruct(rows) @ unit(vectors).T if rows else np.zeros((0, len(queries)), "f")
        places = {row: place for place, row in enumerate(said[0], start=1)}
        return [
            Hit(entries[row].chunk(), float(scores[0]), float(scores.max()), places.get(row), fused[row])
            for row, scores in zip(rows, cosines, strict=True)
        ]

    def rows_of(self, span: Span) -> list[int]:
        """The rows that hold chunks of the conversation at `span`."""
        if (code := self._codes.get((span.team, span.channel))) is None:
            return []
        return self._documents.rows_of(span, np.flatnonzero(self._code_of_row == code).tolist())

    def vectors_by_hash(self, hashes: Iterable[str]) -> dict[str, Vectors]:
        """The vectors of those texts that are there, by the hash of the text."""
        rows = self._documents.rows_by_hash(hashes)
        return dict(zip(rows, self._reconstruct(list(rows.values())), strict=True))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Embed and add texts, in place of those with the same ids; returns the ids."""
        said = list(texts)
        named = [id_ or uuid.uuid4().hex for id_ in (ids or [None] * len(said))]
        facts = metadatas or [{}] * len(said)
        entries = [Entry(i, _channel(m), t, m) for i, t, m in zip(named, said, facts, strict=True)]
        if entries:
            self._add(entries, np.asarray(self._embedding.embed_documents(said), dtype=np.float32))
        return named

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Delete documents by id, or all; ids that are not there are no fault."""
        self._must_be_writable()
        with self._lock:
            rows = self._documents.delete(ids)
            if rows:
                self._index.remove_ids(np.array(rows, dtype=np.int64))
                self._code_of_row[rows] = -1
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by id, in the order of `ids`: those that are there and may be read."""
        channels = self._readable(None)
        found = self._documents.by_ids(ids)
        return [_document(found[i]) for i in ids if i in found and found[i].channel in channels]

    def similarity_search(
        self, query: str, k: int = 4, *, channels: Channels | None = None, **unknown: Any
    ) -> list[Document]:
        """The best `k` documents that may be read."""
        return [document for document, _ in self.similarity_search_with_score(query, k, channels=channels, **unknown)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, channels: Channels | None = None, **unknown: Any
    ) -> list[tuple[Document, float]]:
        """The best `k` documents that may be read, with their cosine similarity."""
        _refuse(unknown)
        vector = self._query(query)
        return [(_document(e), score) for e, score, _ in self._nearest(vector, self._readable(channels), k)]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, channels: Channels | None = None, **unknown: Any
    ) -> list[Document]:
        """The best `k` documents that may be read, for a vector instead of a text."""
        _refuse(unknown)
        vector = np.asarray(embedding, dtype=np.float32)
        return [_document(entry) for entry, _, _ in self._nearest(vector, self._readable(channels), k)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        channels: Channels | None = None,
        **unknown: Any,
    ) -> list[Document]:
        """`k` documents of the best `fetch_k` that may be read, chosen to be unlike each other."""
        _refuse(unknown)
        vector = self._query(query)
        found = self._nearest(vector, self._readable(channels), fetch_k)
        candidates = self._reconstruct([row for _, _, row in found]).tolist()
        return [_document(found[i][0]) for i in maximal_marginal_relevance(vector, candidates, lambda_mult, k)]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        channels: Channels | None = None,
        **unknown: Any,
    ) -> FaissVectorStore:
        """A store in memory that holds `texts`."""
        _refuse(unknown)
        store = cls(embedding, channels=channels)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Any:
        return lambda cosine: max(0.0, cosine)

    def _query(self, text: str) -> Vectors:
        return np.asarray(self._embedding.embed_query(text), dtype=np.float32)

    def _nearest(self, query: Vectors, channels: Channels, k: int) -> list[tuple[Entry, float, int]]:
        """(entry, cosine, row), best first."""
        with self._lock:
            (found,) = self._rows(query[np.newaxis], channels, k)
            entries = self._documents.entries(row for row, _ in found)
        return [(entries[row], score, row) for row, score in found]

    def _rows(
        self, vectors: Vectors, channels: Channels, k: int, without: Sequence[int] = ()
    ) -> list[list[tuple[int, float]]]:
        """(row, cosine), best first, for each of the vectors; rows in `without` are passed over."""
        with self._lock:
            # One more for the code -1 of rows that are gone.
            readable = np.array([*(channel in channels for channel in self._codes), False])[self._code_of_row]
            readable[list(without)] = False
            k = min(k, int(np.count_nonzero(readable)))
            if k < 1:
                return [[] for _ in vectors]
            scores, rows = self._index.search(unit(vectors), k, params=_only(readable))
        # float16 lets a cosine of 1 come out a little larger; among equals FAISS's order is its heap's.
        found = zip(rows.tolist(), scores.clip(-1, 1).tolist(), strict=True)
        return [sorted(zip(*each, strict=True), key=lambda hit: (-hit[1], hit[0])) for each in found]

    def _add(self, entries: Sequence[Entry], vectors: Vectors) -> None:
        self._must_be_writable()
        newest = {entry.id: i for i, entry in enumerate(entries)}
        kept = list(newest.values())
        with self._lock:
            self.delete(list(newest))
            if self._index is None:
                self._index = _new_index(vectors.shape[1])
            rows = self._documents.add([entries[i] for i in kept])
            self._index.add_with_ids(unit(vectors[kept]), np.array(rows, dtype=np.int64))
            codes = [self._codes.setdefault(entries[i].channel, len(self._codes)) for i in kept]
            self._code_of_row = np.append(self._code_of_row, np.array(codes, dtype=np.int32))

    def _reconstruct(self, rows: list[int]) -> Vectors:
        found: Vectors = (
            self._index.reconstruct_batch(np.array(rows, dtype=np.int64)) if rows else np.zeros((0, 0), "f")
        )
        return found

    def _readable(self, channels: Channels | None) -> Channels:
        readable = self._channels if channels is None else channels
        if readable is None:
            raise NotReadableError("Say which channels may be read: channels=frozenset({(team, channel)}).")
        return readable

    def _must_be_writable(self) -> None:
        if self._read_only:
            raise ArtifactError("A published index is never changed; run `doppel reindex` to publish a new one.")


def write_index(path: Path, dimensions: int, batches: Iterable[tuple[list[int], Vectors]]) -> None:
    """Write the FAISS file of a version: rows and their unit vectors, shape (n, dimensions). Raises StorageError."""
    index = _new_index(dimensions)
    for rows, vectors in batches:
        index.add_with_ids(vectors, np.array(rows, dtype=np.int64))
    try:
        # FAISS's own writer lets a disk that is full at the last block pass.
        with path.open("wb") as file:
            _faiss.write_index(index, _faiss.PyCallbackIOWriter(file.write))
    except OSError as error:
        raise storage_error(error, path.parent) from error


def _new_index(dimensions: int) -> Any:
    codec = faiss.ScalarQuantizer.QT_fp16
    return faiss.IndexIDMap2(faiss.IndexScalarQuantizer(dimensions, codec, faiss.METRIC_INNER_PRODUCT))


def _only(readable: NDArray[np.bool_]) -> Any:
    return _faiss.SearchParameters(sel=_faiss.IDSelectorBitmap(np.packbits(readable, bitorder="little")))


def _fused(orders: Sequence[tuple[float, Sequence[int]]]) -> dict[int, float]:
    """One order of several with their weights: the sum of weight / (RANK_OFFSET + rank) decides, and among equals the
    first order. Rows, best first, with that sum as a share of the largest there can be.
    """
    largest = sum(weight for weight, _ in orders) / (RANK_OFFSET + 1)
    scores: dict[int, float] = {}
    for weight, order in orders:
        for rank, row in enumerate(order, start=1):
            scores[row] = scores.get(row, 0.0) + weight / (RANK_OFFSET + rank)
    return {row: scores[row] / largest for row in sorted(scores, key=lambda row: -scores[row])}


def _document(entry: Entry) -> Document:
    return Document(id=entry.id, page_content=entry.text, metadata=dict(entry.metadata))


def _channel(metadata: dict[str, Any]) -> ChannelKey:
    team, channel = metadata.get("team"), metadata.get("channel")
    return (team, channel) if isinstance(team, str) and isinstance(channel, str) else NO_CHANNEL


def _refuse(unknown: dict[str, Any]) -> None:
    """Nothing that narrows a search may be dropped without a word."""
    if unknown:
        raise TypeError(f"this search takes `channels` and nothing else, not {', '.join(unknown)}")

"""From the archive to a published index: everything is read and cut again, only what is new is embedded."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from doppel.artifacts import Version, VersionedFolder, Writer, storage_error, write_atomic
from doppel.engine.conversation import conversations
from doppel.errors import ArtifactError
from doppel.records import Message
from indexing import FORMAT, lexical
from indexing.cache import VectorCache
from indexing.chunk import chunk
from indexing.documents import Documents, Entry
from indexing.embed import Embedder, Vectors
from indexing.vectors import DOCUMENTS_FILE, INDEX_FILE, FaissVectorStore, write_index

CACHE_FILE = "unpublished-vectors.sqlite"
REVISION_FILE = "revision"
"""Beside the versions: the current one's name, and a later revision of the archive that it was found to hold too."""
BATCH = 256
"""Texts embedded between two saves of what a kill would lose."""

Progress = Callable[[int, int], None]
"""Called with the number of texts embedded so far and of those that need it; first with 0."""


class MessageSource(Protocol):
    """What is read of the archive."""

    def messages(self) -> Iterable[Message]:
        """All messages, channel by channel, each in the order of time."""
        ...

    def revision(self) -> int:
        """A number that grows with every change of the messages."""
        ...

    def clean_revision(self) -> int:
        """The revision from which on nothing of an index was forgotten."""
        ...


class VectorSource(Protocol):
    """Somewhere vectors are known."""

    def vectors_by_hash(self, hashes: Iterable[str]) -> dict[str, Vectors]:
        """The vectors of those texts that are there, by the hash of the text."""
        ...


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """What a run found and did, in chunks but for `conversations`; embedded and reused make up `chunks`."""

    conversations: int
    chunks: int
    embedded: int
    reused: int
    removed: int
    version: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Previous:
    version: Version
    store: FaissVectorStore

    def has(self, info: dict[str, Any]) -> bool:
        return {key: self.version.info.get(key) for key in info} == info


def reindex(
    archive: MessageSource,
    folder: VersionedFolder,
    embedder: Embedder,
    *,
    full: bool = False,
    keep: int = 3,
    progress: Progress = lambda done, total: None,
) -> ReindexReport:
    """Publish an index of everything in `archive`; keep the newest `keep` versions, and none with what was forgotten.

    Vectors come from the current version where model and text are the same, or from a run that was cut off; `full`
    disregards the current version. Where nothing at all changed, the current version stays. Raises ArtifactError where
    that is damaged (not with `full`), BusyError, StorageError.
    """
    started = time.perf_counter()
    # Before anything is read: what is said meanwhile may be missed, and then the numbers differ.
    revision, clean = archive.revision(), archive.clean_revision()
    with folder.writer() as writer, _disk_errors(folder.root):
        previous = _previous(folder, embedder, forgiving=full)
        draft = writer.draft()
        with closing(Documents.new(draft / DOCUMENTS_FILE)) as documents:
            info: dict[str, Any] = {"format": FORMAT, "words": lexical.VERSION, "model": embedder.model_id}
            info |= _collect(archive, documents)
            if previous and not full and previous.has(info):
                write_atomic(folder.root / REVISION_FILE, f"{previous.version.name} {revision}\n")
                _drop_forgotten(writer, clean)
                return _report(info, 0, 0, previous.version, started)
            known = previous if previous and not full and previous.has({"model": embedder.model_id}) else None
            with closing(VectorCache(folder.root / CACHE_FILE, embedder.model_id)) as cache:
                sources: list[VectorSource] = [known.store, cache] if known else [cache]
                embedded = _embed_missing(documents, sources, cache, embedder, progress)
                info["dimensions"] = known.store.dimensions if known else embedder.dimensions
                write_index(draft / INDEX_FILE, info["dimensions"], _all_vectors(documents, sources))
            removed = documents.count_missing(previous.store.documents) if previous else 0
        version = writer.publish(draft, info | {"revision": revision})
        cache.clear()
        writer.prune(keep)
        _drop_forgotten(writer, clean)
    return _report(info, embedded, removed, version, started)


def is_clean(folder: VersionedFolder, clean_revision: int) -> bool:
    """Whether no version, nor what an interrupted run left, can hold what was forgotten up to that revision."""
    held = indexed_revision(folder)
    fresh = held is None or held >= clean_revision
    return fresh and not _older(folder, clean_revision) and not (folder.root / CACHE_FILE).exists()


def _drop_forgotten(writer: Writer, clean_revision: int) -> None:
    """Delete what was made from an archive that held what is forgotten now; the current version was not."""
    for name in _older(writer.folder, clean_revision):
        writer.delete(name)
    if clean_revision:
        (writer.folder.root / CACHE_FILE).unlink(missing_ok=True)


def _older(folder: VersionedFolder, clean_revision: int) -> list[str]:
    """Versions, but for the current one, of an archive before that revision, or of nobody knows which."""
    current = folder.current_name()
    return [name for name in folder.names() if name != current and _revision_of(folder, name) < clean_revision]


def _revision_of(folder: VersionedFolder, name: str) -> int:
    try:
        recorded = folder.load(name).info.get("revision")
    except ArtifactError:
        return -1
    return recorded if isinstance(recorded, int) else -1


def is_due(folder: VersionedFolder, revision: int) -> bool:
    """Whether the index lacks what the archive holds at that revision, or can't be searched, or not by all words."""
    version = folder.current()
    if version is None or indexed_revision(folder) != revision:
        return True
    return (version.info.get("format"), version.info.get("words")) != (FORMAT, lexical.VERSION)


def indexed_revision(folder: VersionedFolder) -> int | None:
    """The revision of the archive that the current version holds, or None. Raises ArtifactError where it is damaged."""
    version = folder.current()
    if version is None:
        return None
    try:
        name, found = (folder.root / REVISION_FILE).read_text(encoding="utf-8").split()
        if name == version.name:
            return int(found)
    except (OSError, ValueError):
        pass
    recorded = version.info.get("revision")
    return recorded if isinstance(recorded, int) else None


def _previous(folder: VersionedFolder, embedder: Embedder, forgiving: bool) -> _Previous | None:
    """The current version, its checksums compared; None where there is none of this format."""
    try:
        version = folder.current()
        if version is None or version.info.get("format") != FORMAT:
            return None
        return _Previous(version, FaissVectorStore.published(folder, version, embedder))
    except ArtifactError:
        if forgiving:
            return None
        raise


def _collect(archive: MessageSource, documents: Documents) -> dict[str, Any]:
    """Fill `documents` with the chunks of all conversations; returns how many, and a hash of all that they say."""
    content, counts = hashlib.sha256(), {"conversations": 0, "chunks": 0}
    entries: list[Entry] = []
    for conversation in conversations(archive.messages()):
        chunks = chunk(conversation)
        content.update(repr(chunks).encode())
        counts["conversations"] += 1
        counts["chunks"] += len(chunks)
        entries += map(Entry.of, chunks)
        if len(entries) >= BATCH:
            documents.add(entries)
            entries = []
    documents.add(entries)
    return {**counts, "content": content.hexdigest()}


def _embed_missing(
    documents: Documents, sources: Sequence[VectorSource], cache: VectorCache, embedder: Embedder, progress: Progress
) -> int:
    """Put the vectors that no source has into `cache`; returns how many entries they are for."""
    missing = sorted(_missing(documents, sources), reverse=True)
    hashes = [hash_ for _, hash_, _ in missing]
    progress(0, len(hashes))
    for start in range(0, len(hashes), BATCH):
        batch = hashes[start : start + BATCH]
        tell = partial(_tell, progress, start, len(hashes))
        cache.put(batch, embedder.encode_documents(documents.texts(batch), tell))
    return sum(count for _, _, count in missing)


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _missing(documents: Documents, sources: Sequence[VectorSource]) -> Iterator[tuple[int, str, int]]:
    """(length, hash, entries that say it) of the texts whose vectors no source has."""
    for batch in documents.text_sizes():
        known = _lookup([hash_ for hash_, _, _ in batch], sources)
        yield from ((length, hash_, count) for hash_, length, count in batch if hash_ not in known)


def _all_vectors(documents: Documents, sources: Sequence[VectorSource]) -> Iterator[tuple[list[int], Vectors]]:
    """Rows and their vectors, in the order of rows."""
    for batch in documents.row_hashes():
        known = _lookup([hash_ for _, hash_ in batch], sources)
        yield [row for row, _ in batch], np.stack([known[hash_] for _, hash_ in batch])


def _lookup(hashes: list[str], sources: Sequence[VectorSource]) -> dict[str, Vectors]:
    known: dict[str, Vectors] = {}
    for source in sources:
        known = source.vectors_by_hash(hashes) | known
    return known


def _report(info: dict[str, Any], embedded: int, removed: int, version: Version, started: float) -> ReindexReport:
    chunks = info["chunks"]
    seconds = time.perf_counter() - started
    return ReindexReport(info["conversations"], chunks, embedded, chunks - embedded, removed, version.name, seconds)


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise storage_error(OSError(str(error)), root) from error

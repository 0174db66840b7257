"""The texts behind an index's vectors, in SQLite: one row for each vector, with the channel it may be read in, and
a search by the words in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doppel.access import ChannelKey
from doppel.records import Chunk, Span
from doppel.timestamps import day
from indexing import lexical
from indexing.chunk import text_hash

BATCH = 4096

_TABLES = """
CREATE TABLE documents (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, team TEXT NOT NULL, channel TEXT NOT NULL,
    hash TEXT NOT NULL, text TEXT NOT NULL, day TEXT NOT NULL, metadata TEXT NOT NULL, spaced TEXT
);
CREATE INDEX documents_hash ON documents (hash);
"""
_LISTED = "(SELECT value FROM json_each(?))"
_OF_THREAD = f"SELECT row FROM documents WHERE row IN {_LISTED} AND json_extract(metadata, '$.thread_ts') = ?"
# A Slack timestamp as a double is exact to the microsecond, and compared as a number whatever its digits.
_OF_TIME = f"""
SELECT row FROM documents WHERE row IN {_LISTED} AND json_extract(metadata, '$.thread_ts') IS NULL
AND CAST(json_extract(metadata, '$.conversation_last_ts') AS REAL) >= CAST(? AS REAL)
AND CAST(json_extract(metadata, '$.conversation_first_ts') AS REAL) <= CAST(? AS REAL)
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A text, the channel whose readers may find it, and whatever else is known of it, as plain JSON."""

    id: str
    channel: ChannelKey
    text: str
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, chunk: Chunk) -> Entry:
        """A chunk as an entry."""
        facts = asdict(chunk)
        return cls(facts.pop("id"), (chunk.team, chunk.channel), facts.pop("text"), facts)

    def chunk(self) -> Chunk:
        """The chunk this entry was made of."""
        facts = {**self.metadata, "authors": tuple(self.metadata["authors"])}
        return Chunk(id=self.id, text=self.text, **facts)


class Documents:
    """The rows of one index. Safe to call from several threads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Over a connection to a database that holds the tables; use `new` and `open`."""
        self._sql = connection
        self._lock = Lock()
        self._next_row: int = self._sql.execute("SELECT ifnull(max(row) + 1, 0) FROM documents").fetchone()[0]

    @classmethod
    def new(cls, path: Path | None = None) -> Documents:
        """An empty table in a new file, or in memory. A file that was not closed is of no use."""
        connection = sqlite3.connect(path or ":memory:", check_same_thread=False)
        # A draft that is interrupted is thrown away, so it needs no journal.
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" if path else "")
        connection.executescript(_TABLES + lexical.TABLES)
        return cls(connection)

    @classmethod
    def open(cls, path: Path) -> Documents:
        """A table that was written before, to read only. Raises sqlite3.Error where the file is none."""
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        return cls(sqlite3.connect(uri, uri=True, check_same_thread=False))

    def __len__(self) -> int:
        return int(self._all("SELECT count(*) FROM documents")[0][0])

    def add(self, entries: Sequence[Entry]) -> list[int]:
        """Append entries whose ids are new; returns their rows, which follow the highest so far."""
        with self._lock, self._sql:
            rows = list(range(self._next_row, self._next_row + len(entries)))
            values = map(_values, rows, entries)
            self._sql.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            self._next_row += len(entries)
        return rows

    def delete(self, ids: Iterable[str] | None) -> list[int]:
        """Remove entries by id, all for None; returns the rows that are gone."""
        which, values = ("", ()) if ids is None else (f"WHERE id IN {_LISTED}", (_json(ids),))
        return [row for (row,) in self._all(f"DELETE FROM documents {which} RETURNING row", *values)]

    def matching(
        self, query: str, channels: Collection[ChannelKey], k: int, without: Collection[int] = ()
    ) -> list[int]:
        """The rows of `channels` that the words of `query` fit best, best first, at most `k`; also rows of one word.

        Rows in `without` are passed over.
        """
        if not (words := lexical.match(query)):
            return []
        return [row for (row,) in self._all(lexical.BEST, words, _json(channels), _json(without), k)]

    def rows_of(self, span: Span, rows: Iterable[int]) -> list[int]:
        """Those of `rows`, which are of the span's channel, that hold chunks of its conversation.

        They are the thread's or, where that is None, those without a thread whose conversation overlaps the span.
        """
        if span.thread_ts is not None:
            found = self._all(_OF_THREAD, _json(rows), span.thread_ts)
        else:
            found = self._all(_OF_TIME, _json(rows), span.first_ts, span.last_ts)
        return [row for (row,) in found]

    def entries(self, rows: Iterable[int]) -> dict[int, Entry]:
        """Entries by row, those that are there."""
        return dict(self._entries("row", rows))

    def by_ids(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Entries by id, those that are there."""
        return {entry.id: entry for _, entry in self._entries("id", ids)}

    def channel_codes(self) -> tuple[dict[ChannelKey, int], NDArray[np.int32]]:
        """A number for each channel, and that of each row, shape (highest row + 1,); -1 where a row is gone."""
        codes: dict[ChannelKey, int] = {}
        by_row = np.full(self._next_row, -1, dtype=np.int32)
        for batch in self._batches("SELECT row, team, channel FROM documents"):
            rows = [row for row, _, _ in batch]
            by_row[rows] = [codes.setdefault((team, channel), len(codes)) for _, team, channel in batch]
        return codes, by_row

    def row_hashes(self) -> Iterator[list[tuple[int, str]]]:
        """(row, text hash) of all entries in the order of rows, in batches."""
        return self._batches("SELECT row, hash FROM documents ORDER BY row")

    def text_sizes(self) -> Iterator[list[tuple[str, int, int]]]:
        """(text hash, length, entries that say it) of all different texts, in batches."""
        return self._batches("SELECT hash, length(text), count(*) FROM documents GROUP BY hash")

    def rows_by_hash(self, hashes: Iterable[str]) -> dict[str, int]:
        """A row for each text hash that is there."""
        found = self._all(f"SELECT hash, min(row) FROM documents WHERE hash IN {_LISTED} GROUP BY hash", _json(hashes))
        return dict(found)

    def texts(self, hashes: Sequence[str]) -> list[str]:
        """The texts with these hashes, in their order."""
        found = dict(self._all(f"SELECT hash, text FROM documents WHERE hash IN {_LISTED}", _json(hashes)))
        return [found[h] for h in hashes]

    def count_missing(self, other: Documents) -> int:
        """How many entries of `other` are not here, by id."""
        batches = other._batches("SELECT id FROM documents")
        return sum(len(batch) - len(self._present(id_ for (id_,) in batch)) for batch in batches)

    def close(self) -> None:
        """Let go of the file."""
        self._sql.close()

    def _present(self, ids: Iterable[str]) -> list[Any]:
        return self._all(f"SELECT id FROM documents WHERE id IN {_LISTED}", _json(ids))

    def _entries(self, column: str, values: Iterable[Any]) -> Iterator[tuple[int, Entry]]:
        columns = "row, id, team, channel, text, metadata"
        found = self._all(f"SELECT {columns} FROM documents WHERE {column} IN {_LISTED}", _json(values))
        for row, id_, team, channel, text, metadata in found:
            yield row, Entry(id_, (team, channel), text, json.loads(metadata))

    def _all(self, statement: str, *values: str | int) -> list[Any]:
        with self._lock, self._sql:
            return self._sql.execute(statement, values).fetchall()

    def _batches(self, statement: str) -> Iterator[list[Any]]:
        cursor = self._sql.execute(statement)
        while batch := cursor.fetchmany(BATCH):
            yield batch


def _values(row: int, entry: Entry) -> tuple[int | str | None, ...]:
    text, metadata = entry.text, json.dumps(entry.metadata)
    spaced = lexical.words_of(text)
    return row, entry.id, *entry.channel, text_hash(text), text, _day(entry.metadata), metadata, spaced


def _day(metadata: Mapping[str, Any]) -> str:
    """When it was said, in words; "" for what is no chunk."""
    try:
        return day(metadata["first_ts"])
    except (KeyError, AttributeError, ValueError, OverflowError, OSError):
        return ""


def _json(values: Iterable[Any]) -> str:
    return json.dumps(list(values))

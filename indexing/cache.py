"""Finished vectors of a run that may be cut off, so that the next one goes on from there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from indexing.embed import Vectors


class VectorCache:
    """Vectors of one model by text hash, in a file that outlives a kill; float16, as in an index."""

    def __init__(self, path: Path, model_id: str) -> None:
        """Open the cache; one that can't be read is thrown away, for it only ever saves time."""
        self._path = path
        self._model = model_id
        try:
            self._sql = _connect(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            path.unlink()
            self._sql = _connect(path)

    def vectors_by_hash(self, hashes: Iterable[str]) -> dict[str, Vectors]:
        """The vectors of those texts that are there."""
        found = self._sql.execute(
            "SELECT hash, vector FROM vectors WHERE model = ? AND hash IN (SELECT value FROM json_each(?))",
            (self._model, json.dumps(list(hashes))),
        )
        return {hash_: np.frombuffer(vector, dtype="<f2").astype(np.float32) for hash_, vector in found}

    def put(self, hashes: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors, shape (len(hashes), dimensions); once this returns they survive a kill."""
        values = [(self._model, h, v.astype("<f2").tobytes()) for h, v in zip(hashes, vectors, strict=True)]
        with self._sql:
            self._sql.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", values)

    def close(self) -> None:
        """Let go of the file and keep it."""
        self._sql.close()

    def clear(self) -> None:
        """Delete the file; the index has it all."""
        self._path.unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    try:
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError(f"{path} is damaged")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS vectors"
            " (model TEXT, hash TEXT, vector BLOB NOT NULL, PRIMARY KEY (model, hash)) WITHOUT ROWID"
        )
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection

"""One archive into another, row by row: between SQLite and Postgres, either way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection, Table, func, insert, select

from doppel.archive.channels import Values
from doppel.archive.reading import AnyRow
from doppel.archive.tables import metadata
from doppel.errors import ArchiveError, BadInputError
from doppel.plain_text import storable

COPIED = tuple(table for table in metadata.sorted_tables if not table.info.get("counted"))
"""The tables that are copied; the target counts by itself."""
_PAGE = 1000

Checksum = tuple[int, str]
"""How many rows, and the SHA-256 over all of them in the order of their keys."""

Progress = Callable[[int, int], None]
"""Called with the rows done and the rows to do; every row is written and read back."""


def copy_rows(source: Connection, target: Connection, where: str, progress: Progress | None = None) -> dict[str, int]:
    """Copy every table within the transaction of `target`, and read it back; returns how many rows each has.

    `where` names the target in messages. Raises BadInputError where it isn't empty, ArchiveError where what is read
    back is not what was written.
    """
    if any(_count(target, table) for table in COPIED):
        raise BadInputError(f"{where} is not empty; name a new database or a new file.")
    count = _Counter(2 * sum(_count(source, table) for table in COPIED), progress)
    copied = {}
    for table in COPIED:
        written, found = _written(source, target, table, count), _found(target, table, count)
        if found != written:
            raise ArchiveError(f"The table {table.name} arrived in {where} changed; nothing was kept, try again.")
        copied[table.name] = written[0]
    return copied


def _written(source: Connection, target: Connection, table: Table, count: _Counter) -> Checksum:
    """Copy a table; returns what was written."""
    checksum = _Checksum()
    for page in _pages(source, table):
        rows = [_storable(row) for row in page]
        target.execute(insert(table), rows)
        checksum.add(rows)
        count.add(len(rows))
    return checksum.value


def _found(target: Connection, table: Table, count: _Counter) -> Checksum:
    """Read a table back."""
    checksum = _Checksum()
    for page in _pages(target, table):
        checksum.add([dict(row._mapping) for row in page])
        count.add(len(page))
    return checksum.value


class _Checksum:
    def __init__(self) -> None:
        self._rows = 0
        self._hash = hashlib.sha256()

    @property
    def value(self) -> Checksum:
        return self._rows, self._hash.hexdigest()

    def add(self, rows: Sequence[Values]) -> None:
        self._rows += len(rows)
        for row in rows:
            self._hash.update(json.dumps(list(row.values()), sort_keys=True).encode())


class _Counter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, rows: int) -> None:
        self._done += rows
        if self._progress:
            self._progress(self._done, self._total)


def _storable(row: AnyRow) -> Values:
    """The row as Postgres takes it too: SQLite may hold a NUL that came before both were written the same way."""
    return {name: storable(value) if isinstance(value, str) else value for name, value in row._mapping.items()}


def _pages(connection: Connection, table: Table) -> Iterator[Sequence[AnyRow]]:
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_PAGE)
    with connection.execute(query) as rows:
        yield from rows.partitions()


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0

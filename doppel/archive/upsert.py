"""One row by its key, there or not: SQLAlchemy's upserts, of SQLite or of Postgres; and many rows batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")
PARAMETERS = 500
"""So many ids one statement names: a database takes a limited number."""


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in groups of so many at most."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def put_row(
    connection: Connection,
    table: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Update the row of `key`, which is the table's primary key, or insert it, then with `defaults` for what `values`
    leave out.
    """
    row = upsert(connection, table).values({**(defaults or {}), **key, **values})
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=dict(values)))

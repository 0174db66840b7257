"""One row by its key, there or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, insert, update


def put_row(
    connection: Connection,
    table: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Update the row of `key`, or insert it, then with `defaults` for what `values` leave out.

    Nobody else may write meanwhile: it is for the transactions of `database.writing`.
    """
    here = [table.c[name] == value for name, value in key.items()]
    if not connection.execute(update(table).where(*here).values(**values)).rowcount:
        connection.execute(insert(table).values({**(defaults or {}), **key, **values}))

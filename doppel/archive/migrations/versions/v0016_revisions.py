"""What changed last of people, channels and consent, counted by the database itself: see `doppel.archive.revisions`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table, and the triggers that fill it."""
    op.create_table(
        "revisions",
        sa.Column("team", Key, primary_key=True),
        sa.Column("kind", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index("revisions_by_revision", "revisions", ["team", "revision"])
    for statement in _triggers(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A table whose changes are counted; an update counts only where it changes one of the `columns`."""

    table: str
    kind: str
    id: str
    columns: Sequence[str]


_COUNTED = (
    _Counted("users", "person", "id", ("handle", "real_name", "display_name", "is_bot", "deleted", "is_guest")),
    _Counted("channels", "channel", "id", ("name", "kind", "members", "archived")),
    # Of when a list of members is known decides which joins and leaves go before it.
    _Counted("channel_versions", "channel", "channel", ("members",)),
    _Counted("memberships", "channel", "channel", ("user_id", "is_member", "as_of")),
    _Counted("consent", "consent", "user_id", ("action", "at", "by")),
    _Counted("forgotten", "forgotten", "user_id", ("at", "messages", "revision")),
    _Counted("workspaces", "workspace", "''", ("url",)),
)


def _triggers(dialect: str) -> Iterator[str]:
    """The statements that let the database count."""
    for counted in _COUNTED:
        yield from (_of_postgres if dialect == "postgresql" else _of_sqlite)(counted)


def _count(counted: _Counted, row: str) -> str:
    id_ = counted.id if counted.id.startswith("'") else f"{row}.{counted.id}"
    return (
        f"INSERT INTO revisions (team, kind, id, revision) VALUES ({row}.team, '{counted.kind}', {id_}, "
        f"(SELECT coalesce(max(revision), 0) + 1 FROM revisions WHERE team = {row}.team)) "
        "ON CONFLICT (team, kind, id) DO UPDATE SET revision = excluded.revision"
    )


def _key(counted: _Counted) -> list[str]:
    return ["team", *([] if counted.id.startswith("'") else [counted.id])]


def _of_sqlite(counted: _Counted) -> Iterator[str]:
    name, key = f"{counted.table}_counted", _key(counted)
    old, new = (", ".join(f'{row}."{c}"' for c in (*key, *counted.columns)) for row in ("OLD", "NEW"))
    old_key, new_key = (", ".join(f'{row}."{c}"' for c in key) for row in ("OLD", "NEW"))
    on = f"ON {counted.table} FOR EACH ROW"
    yield f"CREATE TRIGGER {name}_insert AFTER INSERT {on} BEGIN {_count(counted, 'NEW')}; END"
    yield f"CREATE TRIGGER {name}_delete AFTER DELETE {on} BEGIN {_count(counted, 'OLD')}; END"
    changed = f"AFTER UPDATE {on} WHEN ({old}) IS NOT ({new})"
    yield f"CREATE TRIGGER {name}_update {changed} BEGIN {_count(counted, 'NEW')}; END"
    moved = f"AFTER UPDATE {on} WHEN ({old_key}) IS NOT ({new_key})"
    yield f"CREATE TRIGGER {name}_move {moved} BEGIN {_count(counted, 'OLD')}; END"


def _of_postgres(counted: _Counted) -> Iterator[str]:
    name, key = f"{counted.table}_counted", _key(counted)
    # JSON has no equality there.
    old, new = (", ".join(f'{row}."{c}"::text' for c in (*key, *counted.columns)) for row in ("OLD", "NEW"))
    old_key, new_key = (", ".join(f'{row}."{c}"' for c in key) for row in ("OLD", "NEW"))
    for row, suffix in (("NEW", "new"), ("OLD", "old")):
        body = f"BEGIN {_count(counted, row)}; RETURN NULL; END"
        yield f"CREATE FUNCTION {name}_{suffix}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
    on, run = f"ON {counted.table} FOR EACH ROW", "EXECUTE FUNCTION"
    yield f"CREATE TRIGGER {name}_insert AFTER INSERT {on} {run} {name}_new()"
    yield f"CREATE TRIGGER {name}_delete AFTER DELETE {on} {run} {name}_old()"
    yield (f"CREATE TRIGGER {name}_update AFTER UPDATE {on} WHEN (({old}) IS DISTINCT FROM ({new})) {run} {name}_new()")
    yield (
        f"CREATE TRIGGER {name}_move AFTER UPDATE {on} WHEN (({old_key}) IS DISTINCT FROM ({new_key})) "
        f"{run} {name}_old()"
    )

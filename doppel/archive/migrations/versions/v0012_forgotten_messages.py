"""Tombstones of what was forgotten are told from those of what was deleted: only these may come back."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_DELETED = 2**62


def upgrade() -> None:
    """Mark those that a forgetting left: they were seen last when it was."""
    op.execute(
        f"""
        UPDATE messages SET edited = {_DELETED + 1}, raw = '{{"forgotten"\\:true,' || substr(raw, 2)
        WHERE edited = {_DELETED} AND EXISTS (
            SELECT 1 FROM forgotten WHERE forgotten.team = messages.team AND forgotten.at = messages.as_of
        )
        """
    )

"""Whoever is known by their messages alone may be of another workspace: they are guests until a list names them."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make guests of those whom no list named."""
    op.execute("UPDATE users SET is_guest = true WHERE as_of = -1")

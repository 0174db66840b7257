"""What of a message its author typed, and how the messages of a workspace were read."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns; the messages are read again when the archive is opened."""
    op.add_column("messages", sa.Column("said", sa.Text()))
    op.add_column("workspaces", sa.Column("rendering", sa.Integer(), nullable=False, server_default="0"))

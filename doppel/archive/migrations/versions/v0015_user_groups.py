"""What user groups are called, such as @platform-team."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "user_groups",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
    )

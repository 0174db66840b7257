"""What Slack sent and was done, and one vote for each person and answer."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add a table, and a column of votes."""
    op.create_table(
        "deliveries",
        sa.Column("team", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )
    op.add_column("feedback", sa.Column("vote", Key))
    op.create_index("feedback_by_vote", "feedback", ["team", "vote"])

"""Passages, in partitions."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passage",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("passed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("what", sa.String(length=50), nullable=False),
        sa.PrimaryKeyConstraint("id", "passed_at", name=op.f("pk_passage")),
        postgresql_partition_by="RANGE (passed_at)",
    )
    op.execute("ALTER TABLE passage ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE TABLE passage_2026 PARTITION OF passage "
        "FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"
    )
    op.execute("ALTER TABLE passage_2026 ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE TABLE passage_other PARTITION OF passage DEFAULT")
    op.execute("ALTER TABLE passage_other ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("passage")

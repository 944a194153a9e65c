"""Meters."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = ("service",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "meter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter")),
    )
    op.execute("ALTER TABLE meter ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("meter")

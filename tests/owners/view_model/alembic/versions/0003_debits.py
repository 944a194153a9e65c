"""Debits, and what each customer owes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "debit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.Integer(), nullable=False),
        sa.Column("total", sa.Numeric(precision=10, scale=2), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_debit")),
    )
    op.execute("ALTER TABLE debit ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE VIEW balance WITH (security_invoker = true) AS "
        "SELECT customer_id, sum(total) AS owed FROM debit GROUP BY customer_id"
    )


def downgrade() -> None:
    op.execute("DROP VIEW balance")
    op.drop_table("debit")

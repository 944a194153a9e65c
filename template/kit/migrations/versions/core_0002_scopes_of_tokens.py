"""Scopes of API tokens; those that exist keep all rights."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "core_0002"
down_revision = "core_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default writes no row anew, so the table is locked for a moment only.
    op.add_column(
        "api_token",
        sa.Column(
            "scopes",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{*}'"),
            nullable=False,
        ),
    )
    op.alter_column("api_token", "scopes", server_default=sa.text("'{}'"))


def downgrade() -> None:
    op.drop_column("api_token", "scopes")

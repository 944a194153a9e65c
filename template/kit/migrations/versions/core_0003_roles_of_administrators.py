"""Roles of administrators."""

import sqlalchemy as sa
from alembic import op

revision = "core_0003"
down_revision = "core_0002"
branch_labels = None
# Revisions of other branches that have to be applied before this one.
depends_on = None


def upgrade() -> None:
    # A constant default rewrites no table, and who could change rows before still can.
    op.add_column(
        "admin_user",
        sa.Column("role", sa.String(length=16), server_default="editor", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("admin_user", "role")

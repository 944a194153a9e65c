"""Profiles."""

import sqlalchemy as sa
from alembic import op

revision = "accounts_0001"
down_revision = None
branch_labels = ("accounts",)
# Revisions of other branches that have to be applied before this one.
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "accounts_profile",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("display_name", sa.String(length=100), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts_profile")),
    )
    op.execute("ALTER TABLE accounts_profile ENABLE ROW LEVEL SECURITY")
    op.create_index(
        op.f("ix_accounts_profile_last_seen_at"), "accounts_profile", ["last_seen_at"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_accounts_profile_last_seen_at"), table_name="accounts_profile")
    op.drop_table("accounts_profile")

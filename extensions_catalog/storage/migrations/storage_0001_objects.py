"""Objects."""

import sqlalchemy as sa
from alembic import op

revision = "storage_0001"
down_revision = None
branch_labels = ("storage",)
# Revisions of other branches that have to be applied before this one.
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "storage_object",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("filename", sa.String(length=200), nullable=False),
        sa.Column("content_type", sa.String(length=127), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String(length=200), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner_kind", sa.String(length=50), nullable=False),
        sa.Column("owner_id", sa.String(length=200), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage_object")),
        sa.UniqueConstraint("key", name=op.f("uq_storage_object_key")),
    )
    op.execute("ALTER TABLE storage_object ENABLE ROW LEVEL SECURITY")
    op.create_index(
        op.f("ix_storage_object_owner_kind_owner_id_id"),
        "storage_object",
        ["owner_kind", "owner_id", "id"],
    )
    op.create_index(
        op.f("ix_storage_object_created_at"),
        "storage_object",
        ["created_at"],
        postgresql_where=sa.text("state IN ('pending', 'refused', 'deleted')"),
    )


def downgrade() -> None:
    op.drop_table("storage_object")

"""The messages of both directions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "messenger_0001"
down_revision = None
branch_labels = ("messenger",)
# Revisions of other branches that have to be applied before this one.
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "messenger_message",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("direction", sa.String(length=3), nullable=False),
        sa.Column("mid", sa.String(length=512), nullable=True),
        sa.Column("page_id", sa.String(length=64), nullable=True),
        sa.Column("psid", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("attachments", postgresql.JSONB(), nullable=False),
        sa.Column("postback", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("error", sa.String(length=1000), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messenger_message")),
        sa.UniqueConstraint("mid", name=op.f("uq_messenger_message_mid")),
    )
    op.execute("ALTER TABLE messenger_message ENABLE ROW LEVEL SECURITY")
    op.create_index(
        op.f("ix_messenger_message_psid_id"), "messenger_message", ["psid", "id"], unique=False
    )
    op.create_index(
        op.f("ix_messenger_message_due_at"),
        "messenger_message",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'sending')"),
    )


def downgrade() -> None:
    op.drop_index(
        op.f("ix_messenger_message_due_at"),
        table_name="messenger_message",
        postgresql_where=sa.text("state IN ('queued', 'sending')"),
    )
    op.drop_index(op.f("ix_messenger_message_psid_id"), table_name="messenger_message")
    op.drop_table("messenger_message")

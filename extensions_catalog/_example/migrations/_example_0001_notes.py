"""Notes."""

import sqlalchemy as sa
from alembic import op

revision = "_example_0001"
down_revision = None
branch_labels = ("_example",)
# Revisions of other branches that have to be applied before this one.
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "example_note",
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("body", sa.String(length=10000), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("word_count", sa.Integer(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_example_note")),
    )
    op.execute("ALTER TABLE example_note ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("example_note")

"""An index that no writer waits for."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(op.f("ix_meter_serial"), "meter", ["serial"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index(op.f("ix_meter_serial"), "meter")

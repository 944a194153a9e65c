"""Room for encrypted secrets; those that are there are encrypted by the daily task."""

import sqlalchemy as sa
from alembic import op

from app.extensions.webhooks.encryption import decrypted

revision = "webhooks_0002"
down_revision = "webhooks_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("secret", "previous_secret"):
        op.alter_column("webhooks_subscription", column, type_=sa.Text())


def downgrade() -> None:
    table = sa.table(
        "webhooks_subscription",
        sa.column("id", sa.Integer()),
        sa.column("secret", sa.Text()),
        sa.column("previous_secret", sa.Text()),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(table)).all():
        plain = {
            column: stored and decrypted(stored)
            for column, stored in (("secret", row.secret), ("previous_secret", row.previous_secret))
        }
        connection.execute(sa.update(table).where(table.c.id == row.id).values(plain))
    for column in ("secret", "previous_secret"):
        op.alter_column("webhooks_subscription", column, type_=sa.String(length=100))

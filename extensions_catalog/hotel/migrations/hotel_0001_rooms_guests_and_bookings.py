"""Rooms, guests and bookings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "hotel_0001"
down_revision = None
branch_labels = ("hotel",)
# Revisions of other branches that have to be applied before this one.
depends_on = "core_0001"

# For `room_id WITH =`. Supabase keeps extensions out of the schema `public`, which it publishes.
CREATE_BTREE_GIST = """
    DO $$
    BEGIN
        IF to_regnamespace('extensions') IS NULL THEN
            CREATE EXTENSION IF NOT EXISTS btree_gist;
        ELSE
            CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA extensions;
        END IF;
    END
    $$
"""

# PostgreSQL refuses if another table uses it. It also stays if another role has created it, so that
# this one may not drop it.
DROP_BTREE_GIST_UNLESS_USED = """
    DO $$
    BEGIN
        DROP EXTENSION IF EXISTS btree_gist;
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
        RAISE NOTICE 'the PostgreSQL extension btree_gist stays: %', SQLERRM;
    END
    $$
"""


def upgrade() -> None:
    op.execute(CREATE_BTREE_GIST)
    op.create_table(
        "hotel_guest",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hotel_guest")),
    )
    op.execute("ALTER TABLE hotel_guest ENABLE ROW LEVEL SECURITY")
    op.create_table(
        "hotel_room",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("beds", sa.Integer(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hotel_room")),
        sa.UniqueConstraint("name", name=op.f("uq_hotel_room_name")),
    )
    op.execute("ALTER TABLE hotel_room ENABLE ROW LEVEL SECURITY")
    op.create_table(
        "hotel_booking",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("room_id", sa.Integer(), nullable=False),
        sa.Column("guest_id", sa.Integer(), nullable=False),
        sa.Column("nights", postgresql.DATERANGE(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        postgresql.ExcludeConstraint(
            (sa.column("room_id"), "="),
            (sa.column("nights"), "&&"),
            where=sa.text("status <> 'cancelled'"),
            using="gist",
            name="ex_hotel_booking_room_id_nights",
        ),
        sa.CheckConstraint(
            "NOT isempty(nights) AND NOT lower_inf(nights) AND NOT upper_inf(nights)",
            name=op.f("ck_hotel_booking_nights"),
        ),
        sa.ForeignKeyConstraint(
            ["guest_id"], ["hotel_guest.id"], name=op.f("fk_hotel_booking_guest_id_hotel_guest")
        ),
        sa.ForeignKeyConstraint(
            ["room_id"], ["hotel_room.id"], name=op.f("fk_hotel_booking_room_id_hotel_room")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hotel_booking")),
    )
    op.execute("ALTER TABLE hotel_booking ENABLE ROW LEVEL SECURITY")
    op.create_index(op.f("ix_hotel_booking_guest_id"), "hotel_booking", ["guest_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_hotel_booking_guest_id"), table_name="hotel_booking")
    op.drop_table("hotel_booking")
    op.drop_table("hotel_room")
    op.drop_table("hotel_guest")
    op.execute(DROP_BTREE_GIST_UNLESS_USED)

"""The constraint and the PostgreSQL extension that it needs, from migrations and from models."""

import secrets
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from app.extensions.hotel.models import ROOM_IS_FREE
from kit.database import connect
from kit.migrations import script_directory, upgrade_to_heads
from kit.testing import alembic, change_settings, create_database, drop_database

BOOK = text("""
    INSERT INTO hotel_booking (room_id, guest_id, nights, status)
    VALUES (1, 1, '[2030-05-04,2030-05-07)', 'confirmed')
""")


@pytest.fixture
def empty_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of an empty database, which this process's settings name for one test."""
    name = f"hotel_{secrets.token_hex(4)}_test"
    create_database(name)
    change_settings(monkeypatch, POSTGRES_DB=name)
    yield name
    drop_database(name)


async def schema_of_btree_gist(connection: AsyncConnection) -> str | None:
    """Schema of the PostgreSQL extension; None while it does not exist."""
    found: str | None = await connection.scalar(
        text("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'btree_gist'")
    )
    return found


async def assert_no_room_is_booked_twice(connection: AsyncConnection) -> None:
    await connection.execute(text("INSERT INTO hotel_room (id, name, beds) VALUES (1, '101', 1)"))
    await connection.execute(text("INSERT INTO hotel_guest (id, name) VALUES (1, 'Ada')"))
    await connection.execute(BOOK)
    with pytest.raises(IntegrityError, match=ROOM_IS_FREE):
        await connection.execute(BOOK)


@pytest.mark.parametrize("comes_from", ["models", "migrations"])
@pytest.mark.parametrize("schema", ["public", "extensions"])
async def test_both_bring_it_into_the_schema_that_is_meant_for_it(
    empty_database: str, comes_from: str, schema: str
) -> None:
    """Supabase's databases have a schema `extensions`; it need not be in the search path."""
    async with connect() as connection:
        if schema == "extensions":
            await connection.execute(text("CREATE SCHEMA extensions"))
            await connection.commit()
        if comes_from == "models":
            await connection.run_sync(SQLModel.metadata.create_all)
        else:
            await connection.run_sync(upgrade_to_heads, script_directory())

        assert await schema_of_btree_gist(connection) == schema
        await assert_no_room_is_booked_twice(connection)


async def test_one_that_is_there_is_used_where_it_lies(empty_database: str) -> None:
    async with connect() as connection:
        await connection.execute(text("CREATE SCHEMA elsewhere"))
        await connection.execute(text("CREATE EXTENSION btree_gist SCHEMA elsewhere"))
        await connection.commit()
        await connection.run_sync(upgrade_to_heads, script_directory())

        assert await schema_of_btree_gist(connection) == "elsewhere"
        await assert_no_room_is_booked_twice(connection)


@pytest.mark.slow
@pytest.mark.parametrize("is_used", [True, False])
async def test_downgrade_leaves_it_to_others_who_use_it(empty_database: str, is_used: bool) -> None:
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script_directory())
        if is_used:
            await connection.execute(text("CREATE TABLE others (number int, span int4range)"))
            await connection.execute(text("CREATE INDEX ON others USING gist (number, span)"))
            await connection.commit()

    outcome = alembic(empty_database, "downgrade", "hotel@base")

    assert outcome.status == 0, outcome.output
    async with connect() as connection:
        assert await connection.scalar(text("SELECT to_regclass('hotel_booking')")) is None
        assert await schema_of_btree_gist(connection) == ("public" if is_used else None)

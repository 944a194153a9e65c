import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from app.core.database_connection import connect
from app.core.migrations.branches import load_metadata, script_directory
from app.core.migrations.state import read_state
from app.core.migrations.upgrade import upgrade_to_heads
from app.core.row_security import tables_without_row_security
from tests.migrations.catalogue import catalogue
from tests.migrations.command_line import alembic

MODEL_TABLES = {table.name for table in load_metadata().sorted_tables if table.schema is None}


async def test_an_empty_database_gets_every_head(fresh_database: str) -> None:
    script = script_directory()
    async with connect() as connection, connection.begin():
        await connection.run_sync(upgrade_to_heads, script)
        state = await connection.run_sync(read_state, script, SQLModel.metadata)

    assert state.applied == set(script.get_heads())
    assert not state.missing
    assert not state.unknown


async def test_upgrading_again_changes_nothing(fresh_database: str) -> None:
    async with connect() as connection:
        async with connection.begin():
            await connection.run_sync(upgrade_to_heads, script_directory())
            before = await connection.run_sync(catalogue)
        async with connection.begin():
            await connection.run_sync(upgrade_to_heads, script_directory())

            assert await connection.run_sync(catalogue) == before


async def test_migrations_and_models_make_the_same_database(fresh_database: str) -> None:
    """Columns, constraints, indexes, row level security, PostgreSQL extensions and the rest."""
    async with connect() as connection:
        async with connection.begin():
            await connection.run_sync(upgrade_to_heads, script_directory())
            migrated = await connection.run_sync(catalogue)
        async with connection.begin():
            await connection.run_sync(SQLModel.metadata.drop_all)
            await connection.run_sync(SQLModel.metadata.create_all)

            assert await connection.run_sync(catalogue) == migrated


@pytest.mark.parametrize(
    "difference",
    [
        "DROP INDEX ix_audit_entry_action_occurred_at",
        "ALTER TABLE api_token DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE api_token DROP CONSTRAINT uq_api_token_name",
        "ALTER TABLE api_token ALTER name TYPE varchar(99)",
        "ALTER TABLE api_token ALTER created_at DROP DEFAULT",
        "ALTER TABLE api_token ALTER created_at DROP NOT NULL",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE mood AS ENUM ('calm')",
    ],
)
async def test_the_catalogue_shows_each_difference(
    connection: AsyncConnection, difference: str
) -> None:
    """The comparison above could otherwise pass by not looking."""
    before = await connection.run_sync(catalogue)
    await connection.execute(text(difference))

    assert await connection.run_sync(catalogue) != before


class TestRowSecurity:
    async def test_every_migrated_table_has_it(self, fresh_database: str) -> None:
        async with connect() as connection, connection.begin():
            await connection.run_sync(upgrade_to_heads, script_directory())
            tables = await connection.run_sync(_all_tables)

            assert {"alembic_version", *MODEL_TABLES} <= tables
            assert await connection.run_sync(tables_without_row_security) == []

    async def test_every_table_of_the_models_has_it(self, fresh_database: str) -> None:
        async with connect() as connection, connection.begin():
            await connection.run_sync(SQLModel.metadata.create_all)

            assert await connection.run_sync(_all_tables) >= MODEL_TABLES
            assert await connection.run_sync(tables_without_row_security) == []

    async def test_a_table_of_other_metadata_gets_it_too(self, connection: AsyncConnection) -> None:
        metadata = MetaData()
        Table("order", metadata, Column("id", Integer, primary_key=True))
        await connection.run_sync(metadata.create_all)

        assert await connection.run_sync(tables_without_row_security) == []

    async def test_a_table_without_it_is_named(self, connection: AsyncConnection) -> None:
        await connection.execute(text("CREATE TABLE by_hand (id int)"))

        assert await connection.run_sync(tables_without_row_security) == ["by_hand"]


def _all_tables(connection: Connection) -> set[str]:
    return set(
        connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    )


@pytest.mark.slow
async def test_down_to_base_and_up_again(fresh_database: str) -> None:
    async with connect() as connection:
        nothing = await connection.run_sync(catalogue)
        await connection.run_sync(upgrade_to_heads, script_directory())
        migrated = await connection.run_sync(catalogue)
        await connection.commit()

        down = alembic(fresh_database, "-x", "yes", "downgrade", "base")
        assert down.status == 0, down.output
        assert await connection.run_sync(catalogue) == nothing
        await connection.commit()

        up = alembic(fresh_database, "upgrade", "heads")
        assert up.status == 0, up.output
        assert await connection.run_sync(catalogue) == migrated


@pytest.mark.slow
def test_the_models_need_no_further_revision(fresh_database: str) -> None:
    outcome = alembic(fresh_database, "check")

    assert outcome.status == 0, outcome.output
    assert "No new upgrade operations detected" in outcome.output

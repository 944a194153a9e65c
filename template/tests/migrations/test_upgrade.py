import pytest
from sqlalchemy import Connection, text
from sqlmodel import SQLModel

from kit.database import connect, row_security_remedies
from kit.migrations import (
    explain_forks,
    load_metadata,
    read_state,
    script_directory,
    upgrade_to_heads,
)
from kit.testing import alembic, catalogue, differences, migrate_with_rows

MODEL_TABLES = {table.name for table in load_metadata().sorted_tables if table.schema is None}


def test_no_branch_has_two_heads() -> None:
    assert explain_forks(script_directory()) == []


async def test_an_empty_database_gets_every_head(fresh_database: str) -> None:
    script = script_directory()
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script)
        state = await connection.run_sync(read_state, script, SQLModel.metadata)

    assert state.applied == set(script.get_heads())
    assert not state.missing
    assert not state.unknown


async def test_upgrading_again_changes_nothing(fresh_database: str) -> None:
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script_directory())
        before = await connection.run_sync(catalogue)
        await connection.rollback()

        await connection.run_sync(upgrade_to_heads, script_directory())

        assert await connection.run_sync(catalogue) == before


async def test_migrations_and_models_make_the_same_database(fresh_database: str) -> None:
    """Columns, enumerations, constraints, indexes, row level security, comments and the rest.

    A revision may add what no model describes: triggers, views, functions, PostgreSQL extensions.
    """
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script_directory())

        assert await connection.run_sync(differences) == [], "`make db-migrate` says what to do"


async def test_each_revision_works_with_rows_in_every_table(fresh_database: str) -> None:
    """Up, down and up again; the rows are made up."""
    async with connect() as connection:
        await connection.run_sync(migrate_with_rows, script_directory(), SQLModel.metadata)


async def test_every_migrated_table_has_row_security(fresh_database: str) -> None:
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script_directory())
        tables = await connection.run_sync(_all_tables)

        assert {"alembic_version", *MODEL_TABLES} <= tables
        assert await connection.run_sync(row_security_remedies) == {}


def _all_tables(connection: Connection) -> set[str]:
    return set(
        connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    )


@pytest.mark.slow
async def test_down_to_base_and_up_again(fresh_database: str) -> None:
    async with connect() as connection:
        nothing = await connection.run_sync(catalogue)
        await connection.rollback()
        await connection.run_sync(upgrade_to_heads, script_directory())
        migrated = await connection.run_sync(catalogue)
        await connection.commit()

        down = alembic(fresh_database, "-x", "yes", "downgrade", "base")
        assert down.status == 0, down.output
        left = await connection.run_sync(catalogue) - nothing
        assert not left, "downgrade() of a revision leaves what its upgrade() made"
        await connection.commit()

        up = alembic(fresh_database, "upgrade", "heads")
        assert up.status == 0, up.output
        assert await connection.run_sync(catalogue) == migrated


@pytest.mark.slow
def test_the_models_need_no_further_revision(fresh_database: str) -> None:
    outcome = alembic(fresh_database, "check")

    assert outcome.status == 0, outcome.output
    assert "No new upgrade operations detected" in outcome.output

from importlib import import_module

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Integer, MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.database import tables_without_row_security
from kit.testing import catalogue


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


async def test_tokens_from_before_there_were_scopes_keep_all_rights(
    connection: AsyncConnection,
) -> None:
    scopes = import_module("kit.migrations.versions.core_0002_scopes_of_tokens")
    insert = "INSERT INTO api_token (name, hint, token_hash) VALUES ('{0}', 'h', '{0}')"

    def run(sync: Connection) -> None:
        with Operations.context(MigrationContext.configure(sync)):
            scopes.downgrade()
            sync.execute(text(insert.format("before")))
            scopes.upgrade()
        sync.execute(text(insert.format("after")))

    await connection.run_sync(run)
    rows = await connection.execute(text("SELECT name, scopes FROM api_token"))
    assert {row.name: row.scopes for row in rows} == {"before": ["*"], "after": []}


class TestRowSecurity:
    async def test_a_table_of_other_metadata_gets_it_too(self, connection: AsyncConnection) -> None:
        metadata = MetaData()
        Table("order", metadata, Column("id", Integer, primary_key=True))
        await connection.run_sync(metadata.create_all)

        assert await connection.run_sync(tables_without_row_security) == []

    async def test_a_table_without_it_is_named(self, connection: AsyncConnection) -> None:
        await connection.execute(text("CREATE TABLE by_hand (id int)"))

        assert await connection.run_sync(tables_without_row_security) == ["by_hand"]

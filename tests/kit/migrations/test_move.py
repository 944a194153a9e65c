"""A service moves to another database as docs/stack/deployment.md says."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlmodel import SQLModel

from app.core.config import settings
from kit.database import connect
from kit.devservices._servers import find_postgres
from kit.migrations import script_directory, upgrade_to_heads
from kit.testing import fill_tables
from kit.testing._databases import empty_database

ROWS = 50


def run(program: str, *options: str) -> None:
    address = settings.SYNC_DATABASE_URL.replace("+psycopg2", "")
    command = [str(find_postgres().directory / program), address, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def count_rows(connection: Connection) -> dict[str, int]:
    tables = [table for table in SQLModel.metadata.tables if table != "alembic_version"]
    count = "SELECT count(*) FROM {}"
    return {each: connection.scalar(text(count.format(each))) or 0 for each in tables}


async def test_rows_fit_the_tables_that_the_migrations_make(
    fresh_database: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.sql"
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script_directory())
        version = connection.dialect.server_version_info
        assert version is not None
        if version[0] != find_postgres().major:
            pytest.skip("pg_dump is of another version than the server")
        await connection.run_sync(fill_tables, SQLModel.metadata, count=ROWS)
        await connection.commit()
        before = await connection.run_sync(count_rows)
    dump = ("--data-only", "--schema=public", "--exclude-table=alembic_version")
    await asyncio.to_thread(run, "pg_dump", *dump, f"--file={rows}")
    await asyncio.to_thread(empty_database, fresh_database)
    async with connect() as connection:
        await connection.run_sync(upgrade_to_heads, script_directory())
    load = ("--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={rows}")
    await asyncio.to_thread(run, "psql", *load)
    async with connect() as connection:
        assert await connection.run_sync(count_rows) == before
        assert sum(before.values()) >= ROWS
        # Sequences go on where they were: rows without an id get a new one.
        await connection.run_sync(fill_tables, SQLModel.metadata, first=1 + ROWS)
        after = await connection.run_sync(count_rows)
    assert [name for name in before if after[name] <= before[name] and before[name] == ROWS] == []

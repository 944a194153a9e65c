"""Two containers of the service that start at the same moment both run the migrations."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.config import BASE_DIR, settings
from kit.database import connect
from kit.migrations import init_db
from kit.migrations._branches import load_metadata, read_state, script_directory
from kit.migrations._upgrade import lock_migrations
from kit.testing._databases import environment_for
from kit.tests.pgbouncer import pgbouncer

WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""


async def wait_for_waiting(connection: AsyncConnection, count: int) -> None:
    """Return once so many processes wait for the lock of the migrations."""
    async with asyncio.timeout(30):
        # PostgreSQL gives no notice of a waiting lock, so it has to be asked.
        while await connection.scalar(text(WAITING)) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def held_lock() -> AsyncIterator[AsyncConnection]:
    """Hold the lock of the migrations until the block ends."""
    async with connect() as connection, connection.begin():
        await connection.run_sync(lock_migrations)
        yield connection


async def start_upgrade(
    environment: dict[str, str], project: Path = BASE_DIR
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "alembic",
        "upgrade",
        "heads",
        cwd=project,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def upgrade_twice_at_a_time(environment: dict[str, str]) -> list[tuple[int | None, str]]:
    """Status and output of two upgrades that begin at the same moment."""
    async with held_lock() as connection:
        processes = [await start_upgrade(environment) for _ in range(2)]
        await wait_for_waiting(connection, len(processes))
    outcomes = []
    for process in processes:
        output, _ = await process.communicate()
        outcomes.append((process.returncode, output.decode()))
    return outcomes


async def assert_one_of_two_upgraded(outcomes: list[tuple[int | None, str]]) -> None:
    assert [status for status, _ in outcomes] == [0, 0], outcomes
    assert sorted("Running upgrade" in output for _, output in outcomes) == [False, True]
    async with connect() as connection:
        state = await connection.run_sync(read_state, script_directory(), load_metadata())
    assert not state.missing


@pytest.mark.slow
async def test_two_upgrades_take_turns(fresh_database: str) -> None:
    outcomes = await upgrade_twice_at_a_time(environment_for(fresh_database))

    await assert_one_of_two_upgraded(outcomes)


@pytest.mark.slow
async def test_two_upgrades_take_turns_behind_a_transaction_pooler(fresh_database: str) -> None:
    with pgbouncer("transaction", pool_size=4) as pooler:
        outcomes = await upgrade_twice_at_a_time({**os.environ, **pooler})

    await assert_one_of_two_upgraded(outcomes)


@pytest.mark.slow
async def test_several_workers_start_on_an_empty_database(fresh_database: str) -> None:
    async with held_lock() as connection:
        workers = [asyncio.create_task(init_db()) for _ in range(4)]
        await wait_for_waiting(connection, len(workers))
    await asyncio.gather(*workers)

    async with connect() as connection:
        state = await connection.run_sync(read_state, script_directory(), load_metadata())
    assert settings.is_local
    assert not state.missing

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import column, create_engine, func, literal_column, select, text, update
from sqlalchemy.pool import NullPool
from sqlmodel import col, delete
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.core.database import (
    async_session_maker,
    engine,
    read_session_maker,
    sync_engine,
    sync_session_maker,
)
from kit import database
from kit.database import AsyncReadOnlySession, ReadOnlyViolationError
from kit.models import AuditEntry


@pytest.fixture
async def committed_entry(test_database: str) -> AsyncIterator[AuditEntry]:
    """A row that is really committed, for what a rolled-back transaction cannot show."""
    entry = AuditEntry(actor="committed", action="test")
    async with async_session_maker() as session:
        session.add(entry)
        await session.commit()
    yield entry
    async with async_session_maker() as session:
        await session.exec(delete(AuditEntry).where(col(AuditEntry.actor) == "committed"))
        await session.commit()
    await engine.dispose()


@pytest.fixture
async def read_session(db_session: AsyncSession) -> AsyncIterator[AsyncSession]:
    async with AsyncReadOnlySession(
        db_session.bind, join_transaction_mode="create_savepoint", autoflush=False
    ) as session:
        yield session


class TestReadOnlySession:
    async def test_refuses_to_flush(self, read_session: AsyncSession) -> None:
        read_session.add(AuditEntry(actor="somebody", action="test"))

        with pytest.raises(ReadOnlyViolationError, match="use SessionDep"):
            await read_session.commit()

    @pytest.mark.parametrize(
        "statement",
        [
            update(AuditEntry).values(actor="x"),
            delete(AuditEntry),
            text("DELETE FROM audit_entry"),
            select(AuditEntry).with_for_update(),
            select(delete(AuditEntry).returning(col(AuditEntry.id)).cte("gone")),
            text("WITH gone AS (DELETE FROM audit_entry RETURNING id) SELECT id FROM gone"),
            text("SELECT id FROM audit_entry FOR NO KEY UPDATE"),
            text("SELECT id FROM audit_entry FOR SHARE"),
            text("SELECT 1; SELECT 2"),
            text("SELECT 1 AS one INTO copy"),
            text("/* select */ TRUNCATE audit_entry"),
            text("DELETE FROM audit_entry RETURNING id").columns(column("id")),
            select(AuditEntry).from_statement(
                text("UPDATE audit_entry SET actor = '' RETURNING *")
            ),
        ],
    )
    async def test_refuses_anything_but_reads(
        self, read_session: AsyncSession, statement: Any
    ) -> None:
        for _ in range(2):
            with pytest.raises(ReadOnlyViolationError, match="only selects"):
                await read_session.exec(statement)

    @pytest.mark.parametrize(
        ("read", "write"),
        [
            (select(AuditEntry), select(AuditEntry).with_for_update()),
            (select(AuditEntry), select(AuditEntry).with_for_update(read=True)),
            (text("SELECT 1 AS id"), text("SELECT 1 AS id FOR SHARE")),
            (
                text("SELECT 1 AS id").columns(column("id")),
                text("DELETE FROM audit_entry RETURNING id").columns(column("id")),
            ),
            (
                select(select(col(AuditEntry.id)).cte("gone")),
                select(delete(AuditEntry).returning(col(AuditEntry.id)).cte("gone")),
            ),
            (
                select(AuditEntry).from_statement(text("SELECT * FROM audit_entry")),
                select(AuditEntry).from_statement(
                    text("UPDATE audit_entry SET actor = '' RETURNING *")
                ),
            ),
        ],
    )
    async def test_a_read_that_it_knows_lets_no_write_like_it_through(
        self, read_session: AsyncSession, read: Any, write: Any
    ) -> None:
        for _ in range(2):
            await read_session.exec(read)
            with pytest.raises(ReadOnlyViolationError, match="only selects"):
                await read_session.exec(write)

    async def test_remembers_a_limited_number_of_reads(
        self, read_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "MOST_KNOWN_READS", 3)
        for number in range(9):
            await read_session.execute(select(literal_column(str(number))))
            assert len(database._known_reads) <= 3

    @pytest.mark.parametrize(
        "statement",
        [
            text("SELECT 'delete; it''s' AS \"insert\", $a$ update $a$ -- merge"),
            text(" (VALUES (1)) "),
            text("WITH one AS (SELECT 1 AS id) SELECT id FROM one"),
            text("SELECT 1 AS id").columns(column("id")),
            select(AuditEntry).from_statement(text("SELECT * FROM audit_entry")),
            select(AuditEntry).where(text("actor = 'update'")),
            text("EXPLAIN SELECT 1"),
        ],
    )
    async def test_reads_with_sql_of_ones_own(
        self, read_session: AsyncSession, statement: Any
    ) -> None:
        await read_session.execute(statement)

    async def test_reads_committed_rows_without_a_transaction(
        self, committed_entry: AuditEntry
    ) -> None:
        async with read_session_maker() as session:
            found = await session.get(AuditEntry, committed_entry.id)
            # Two statements of one transaction would give the same moment.
            first = await session.scalar(select(func.transaction_timestamp()))
            second = await session.scalar(select(func.transaction_timestamp()))

        assert found is not None
        assert found.actor == "committed"
        assert first is not None
        assert second is not None
        assert first < second


class TestIsolation:
    async def test_commit_is_undone_part_one(self, db_session: AsyncSession) -> None:
        db_session.add(AuditEntry(actor="isolation", action="test"))
        await db_session.commit()
        count = select(func.count()).where(col(AuditEntry.actor) == "isolation")

        assert await db_session.scalar(count) == 1

    async def test_commit_is_undone_part_two(self, db_session: AsyncSession) -> None:
        count = select(func.count()).where(col(AuditEntry.actor) == "isolation")

        assert await db_session.scalar(count) == 0

    async def test_rollback_of_the_code_under_test_keeps_the_tests_rows(
        self, db_session: AsyncSession
    ) -> None:
        db_session.add(AuditEntry(actor="kept", action="test"))
        await db_session.commit()
        await db_session.rollback()
        count = select(func.count()).where(col(AuditEntry.actor) == "kept")

        assert await db_session.scalar(count) == 1


async def test_requests_of_one_test_take_turns(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/api/example/notes") for _ in range(5)))

    assert [answer.status_code for answer in answers] == [200] * 5


@pytest.fixture
async def connection_left_behind(test_database: str) -> None:
    """One in the pool, made in the event loop of the tests."""
    async with engine.connect():
        pass


@pytest.mark.usefixtures("connection_left_behind")
def test_a_client_in_another_loop_meets_no_connection_of_this_one(sync_client: TestClient) -> None:
    answer = sync_client.get("/health/ready")

    assert answer.json()["checks"]["database"]["state"] == "up"


@pytest.mark.usefixtures("test_database")
def test_a_task_gets_no_connection_that_the_server_has_closed() -> None:
    """A restart of the database, or a pooler that gave the worker up, fails no task."""
    with sync_session_maker() as session:
        process = session.scalar(select(func.pg_backend_pid()))
    other = create_engine(
        settings.SYNC_DATABASE_URL, poolclass=NullPool, connect_args=settings.sync_connect_args
    )
    with other.connect() as connection:
        assert connection.scalar(select(func.pg_terminate_backend(process, 5000)))
    with sync_session_maker() as session:
        assert session.scalar(select(func.pg_backend_pid())) != process


def test_pools_never_overflow() -> None:
    assert engine.sync_engine.pool._max_overflow == 0  # type: ignore[attr-defined]
    assert sync_engine.pool._max_overflow == 0  # type: ignore[attr-defined]

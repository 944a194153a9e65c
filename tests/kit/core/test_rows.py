"""Rows without a session: reads that never write, and writes that are committed at once."""

import asyncio
from datetime import datetime
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import bindparam, func, insert, text, update
from sqlalchemy import select as core_select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.core.database import engine
from kit.database import ReadOnlyViolationError, open_session, read_row, read_rows, write_row
from kit.models import AuditEntry
from kit.places import service
from kit.tests.counting_link import CountingLink

BY_ACTOR = (
    select(AuditEntry)
    .where(col(AuditEntry.actor) == bindparam("actor"))
    .order_by(col(AuditEntry.id))
)


NEW = insert(AuditEntry).returning(AuditEntry)
RENAMED = (
    update(AuditEntry)
    .where(col(AuditEntry.actor) == bindparam("before"))
    .values(actor=bindparam("after"))
    .returning(AuditEntry)
)


BINDS: dict[str, Any] = {
    "read_session_maker": {"isolation_level": "AUTOCOMMIT"},
    "async_session_maker": {},
}
"""Options of the engine behind each, as `app/core/database.py` has them."""


class Entry(BaseModel):
    """What an endpoint would answer with."""

    actor: str
    action: str


class Moment(BaseModel):
    now: datetime


class Isolation(BaseModel):
    transaction_isolation: str


class TestInATest:
    @pytest.fixture(autouse=True)
    async def entries(self, db_session: AsyncSession, session_makers: None) -> None:
        db_session.add_all(AuditEntry(actor="row", action=action) for action in ("a", "b"))
        await db_session.commit()

    async def test_reads_what_the_test_has_written(self) -> None:
        assert await read_row(BY_ACTOR, Entry, actor="row") == Entry(actor="row", action="a")
        assert [entry.action for entry in await read_rows(BY_ACTOR, Entry, actor="row")] == [
            "a",
            "b",
        ]

    async def test_returns_nothing_where_there_is_nothing(self) -> None:
        assert await read_row(BY_ACTOR, Entry, actor="no one") is None
        assert await read_rows(BY_ACTOR, Entry, actor="no one") == []

    async def test_leaves_the_transaction_to_the_test(self, db_session: AsyncSession) -> None:
        await read_row(BY_ACTOR, Entry, actor="row")
        assert len((await db_session.exec(BY_ACTOR, params={"actor": "row"})).all()) == 2

    async def test_several_at_once(self) -> None:
        rows = await asyncio.gather(*(read_row(BY_ACTOR, Entry, actor="row") for _ in range(5)))
        assert len(set(map(str, rows))) == 1

    @pytest.mark.parametrize(
        "statement",
        [
            insert(AuditEntry).values(actor="x", action="x").returning(col(AuditEntry.actor)),
            delete(AuditEntry).returning(col(AuditEntry.actor)),
            select(AuditEntry).with_for_update(),
            core_select(delete(AuditEntry).returning(col(AuditEntry.id)).cte("gone")),
            text("DELETE FROM audit_entry RETURNING actor, action"),
        ],
    )
    async def test_refuses_to_write(self, statement: Any) -> None:
        for _ in range(2):
            with pytest.raises(ReadOnlyViolationError, match="only selects"):
                await read_rows(statement, Entry)
        assert len(await read_rows(BY_ACTOR, Entry, actor="row")) == 2

    async def test_writes_what_the_test_reads(self, db_session: AsyncSession) -> None:
        written = await write_row(NEW, Entry, actor="written", action="new")
        assert written == Entry(actor="written", action="new")
        found = await db_session.exec(BY_ACTOR, params={"actor": "written"})
        assert found.one().action == "new"

    async def test_returns_none_where_nothing_is_written(self) -> None:
        assert await write_row(RENAMED, Entry, before="no one", after="x") is None
        renamed = await write_row(RENAMED, Entry, before="row", after="x")
        assert renamed == Entry(actor="x", action="a")

    async def test_a_refused_write_undoes_itself_alone(self) -> None:
        with pytest.raises(IntegrityError):
            await write_row(NEW, Entry, actor="refused", action=None)
        assert len(await read_rows(BY_ACTOR, Entry, actor="row")) == 2

    async def test_a_row_that_does_not_fit_is_an_error(self) -> None:
        with pytest.raises(ValidationError, match="action"):
            await read_row(select(AuditEntry.actor), Entry)

    async def test_columns_may_have_the_names_of_a_row_s_methods(self) -> None:
        class Odd(BaseModel):
            count: int
            t: int

        assert await read_row(text("SELECT 1 AS count, 2 AS t"), Odd) == Odd(count=1, t=2)


class TestInTheService:
    async def test_reads_without_a_transaction(self, emptied_engine: AsyncEngine) -> None:
        moment = select(func.transaction_timestamp().label("now"))
        first, second = await read_row(moment, Moment), await read_row(moment, Moment)
        await emptied_engine.dispose()
        assert first
        assert second
        assert first.now < second.now

    @pytest.mark.parametrize(("call", "statement"), [(read_row, BY_ACTOR), (write_row, RENAMED)])
    async def test_costs_one_round_trip(
        self, test_database: str, monkeypatch: pytest.MonkeyPatch, call: Any, statement: Any
    ) -> None:
        values = {"actor": "no one", "before": "no one", "after": "x"}
        with CountingLink(settings.DATABASE_URL) as link:
            linked = create_async_engine(link.url)
            for name in ("read_session_maker", "async_session_maker"):
                bind = linked.execution_options(**BINDS[name])
                monkeypatch.setattr(service.module("core.database"), name, async_sessionmaker(bind))
            await call(statement, Entry, **values)
            before = link.round_trips
            await call(statement, Entry, **values)
            assert link.round_trips - before == 1
            await linked.dispose()

    async def test_a_write_is_committed_and_leaves_later_ones_to_their_session(
        self, emptied_engine: AsyncEngine
    ) -> None:
        gone = delete(AuditEntry).where(col(AuditEntry.actor).in_(["kept", "undone"]))
        try:
            await write_row(NEW, Entry, actor="kept", action="new")
            assert await read_row(BY_ACTOR, Entry, actor="kept")
            async with open_session() as session:
                session.add(AuditEntry(actor="undone", action="new"))
                await session.flush()
            assert await read_row(BY_ACTOR, Entry, actor="undone") is None
        finally:
            async with open_session() as session:
                await session.exec(gone)
                await session.commit()
            await emptied_engine.dispose()

    @pytest.mark.parametrize("is_replica", [False, True], ids=["same", "replica"])
    async def test_reads_as_the_engine_of_reads_says(
        self, emptied_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, *, is_replica: bool
    ) -> None:
        replica = create_async_engine(settings.DATABASE_URL)
        bind = replica if is_replica else emptied_engine
        bind = bind.execution_options(isolation_level="SERIALIZABLE")
        monkeypatch.setattr(
            service.module("core.database"), "read_session_maker", async_sessionmaker(bind)
        )
        shown = await read_row(text("SHOW transaction_isolation"), Isolation)
        assert shown == Isolation(transaction_isolation="serializable")
        assert replica.pool.checkedin() == is_replica  # type: ignore[attr-defined]
        await replica.dispose()
        await emptied_engine.dispose()

    @pytest.mark.parametrize("how", ["task", "scope"])
    async def test_returns_its_connection_when_it_is_cancelled(
        self, emptied_engine: AsyncEngine, how: str
    ) -> None:
        waiting = text("SELECT pg_sleep(60)")
        if how == "task":
            task = asyncio.create_task(read_rows(waiting, Entry))
            await asyncio.sleep(0.5)
            assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with anyio.move_on_after(0.5):
                await read_rows(waiting, Entry)
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        one = text("SELECT now() AS now")
        assert await read_row(one, Moment)
        await emptied_engine.dispose()

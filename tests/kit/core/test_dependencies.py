import asyncio
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import literal
from sqlmodel import select

from app.core.database import engine
from app.core.dependencies import ReadSessionDep, SessionDep


class TestSessionOfCancelledRequest:
    """A request that is cancelled while its session holds a connection gives that back."""

    @pytest.fixture(params=[SessionDep, ReadSessionDep], ids=["session", "read session"])
    async def request_under_way(self, request: pytest.FixtureRequest, test_database: str) -> Any:
        application = FastAPI()
        holds_connection = asyncio.Event()

        @application.get("/")
        async def _wait(session: request.param) -> None:  # type: ignore[name-defined]
            await session.exec(select(literal(1)))
            holds_connection.set()
            await asyncio.sleep(60)

        async def call() -> None:
            transport = httpx.ASGITransport(app=application)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                await http.get("/")

        yield call, holds_connection
        await engine.dispose()

    async def test_by_its_task(self, request_under_way: Any) -> None:
        call, holds_connection = request_under_way
        running = asyncio.create_task(call())
        await asyncio.wait_for(holds_connection.wait(), 5)
        assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    async def test_by_a_timeout(self, request_under_way: Any) -> None:
        call, holds_connection = request_under_way

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await asyncio.wait_for(holds_connection.wait(), 5)
                scope.cancel()

        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        async with engine.connect() as connection:
            assert await connection.scalar(select(literal(1))) == 1

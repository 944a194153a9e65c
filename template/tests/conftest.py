"""Fixtures of the service's tests; `tests/README.md` shows how to use them.

One connection is held for the session, each test has one transaction on it that is rolled back,
and each request has a session of its own on that connection, whose commits release a savepoint.
A session for everything, as many suites share, would hide a bug that needs one: a row that a
handler forgot to commit, or an attribute that was never loaded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from kit.testing import prepare_environment

prepare_environment()

import httpx
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.core.dependencies import get_read_session, get_session
from app.main import app
from kit.database import AsyncReadOnlySession
from kit.messages import setup_message_handlers

pytest_plugins = ["kit.testing.fixtures"]


@pytest.fixture(scope="session")
async def test_engine(test_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test database, whose tables exist for the session."""
    engine = create_async_engine(
        test_database, poolclass=NullPool, connect_args=settings.database_connect_args
    )
    setup_message_handlers()
    yield engine
    await engine.dispose()


@pytest.fixture
async def db_session(connection: AsyncConnection) -> AsyncIterator[AsyncSession]:
    """A session whose commits the test's end undoes."""
    async with AsyncSession(
        connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
    ) as session:
        yield session


@pytest.fixture
async def client(connection: AsyncConnection) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client whose requests run inside the test's transaction, a session each."""
    # One connection does one thing at a time: concurrent requests of a test take turns.
    turn = asyncio.Lock()

    async def session_of_the_test() -> AsyncIterator[AsyncSession]:
        async with (
            turn,
            AsyncSession(
                connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
            ) as session,
        ):
            yield session

    async def read_session_of_the_test() -> AsyncIterator[AsyncSession]:
        async with (
            turn,
            AsyncReadOnlySession(
                connection,
                expire_on_commit=False,
                autoflush=False,
                join_transaction_mode="create_savepoint",
            ) as session,
        ):
            yield session

    app.dependency_overrides[get_session] = session_of_the_test
    app.dependency_overrides[get_read_session] = read_session_of_the_test
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http
    app.dependency_overrides.clear()


@pytest.fixture
def sync_client(emptied_engine: AsyncEngine) -> Iterator[TestClient]:
    """A synchronous client of the whole service, its start and stop included; nothing overridden.

    It runs in an event loop of its own, so the async engine's connections of the tests' loop are
    closed before, and those that it made there are closed before another loop could meet them.
    """
    with TestClient(app) as http:
        yield http
        assert http.portal is not None
        http.portal.call(emptied_engine.dispose)

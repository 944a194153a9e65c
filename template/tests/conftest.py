"""Fixtures of the service's tests; `tests/README.md` shows how to use them.

One connection is held for the session, each test has one transaction on it that is rolled back,
and each request has a session of its own on that connection, whose commits release a savepoint.
One session for everything, as many suites have it, would hide the bugs that show with a new
session: a row that a handler forgot to commit, or an attribute that was never loaded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from kit.testing import prepare_environment

prepare_environment()

if TYPE_CHECKING:
    import httpx
    from fastapi.testclient import TestClient
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlmodel.ext.asyncio.session import AsyncSession


@pytest.hookimpl(trylast=True)  # importing the service is measured by pytest-cov, which starts here
def pytest_sessionstart(session: pytest.Session) -> None:
    """Load the kit's fixtures, except in a process that only distributes tests to others."""
    config = session.config
    is_controller = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not is_controller:
        config.pluginmanager.import_plugin("kit.testing.fixtures")


@pytest.fixture(scope="session")
async def test_engine(test_database: str) -> AsyncIterator["AsyncEngine"]:
    """An engine on the test database, whose tables exist for the session."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from app.core.config import settings
    from kit.messages import setup_message_handlers

    engine = create_async_engine(
        test_database, poolclass=NullPool, connect_args=settings.database_connect_args
    )
    setup_message_handlers()
    yield engine
    await engine.dispose()


@pytest.fixture
async def db_session(connection: "AsyncConnection") -> AsyncIterator["AsyncSession"]:
    """A session whose commits are rolled back at the end of the test."""
    from kit.testing import session_on

    async with session_on(connection) as session:
        yield session


@pytest.fixture
async def client(
    connection: "AsyncConnection", session_makers: None
) -> AsyncIterator["httpx.AsyncClient"]:
    """An HTTP client whose requests run inside the test's transaction, a session each."""
    import httpx

    from app.core.dependencies import get_read_session, get_session
    from app.main import app
    from kit.testing import read_session_on, session_on

    # A connection runs one statement at a time: concurrent requests of a test take turns.
    turn = asyncio.Lock()

    async def session_of_the_test() -> AsyncIterator["AsyncSession"]:
        async with turn, session_on(connection) as session:
            yield session

    async def read_session_of_the_test() -> AsyncIterator["AsyncSession"]:
        async with turn, read_session_on(connection) as session:
            yield session

    app.dependency_overrides[get_session] = session_of_the_test
    app.dependency_overrides[get_read_session] = read_session_of_the_test
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http
    app.dependency_overrides.clear()


@pytest.fixture
def sync_client(emptied_engine: "AsyncEngine") -> Iterator["TestClient"]:
    """A synchronous client of the whole service, with its start and stop; nothing is overridden.

    It runs in an event loop of its own, so the async engine's connections of the tests' loop are
    closed before, and those that it made there are closed before another loop could meet them.
    """
    from fastapi.testclient import TestClient

    from app.main import app

    with TestClient(app) as http:
        yield http
        assert http.portal is not None
        http.portal.call(emptied_engine.dispose)

"""Fixtures of the service's tests; `tests/README.md` shows how to use them.

One connection is held for the session, each test has one transaction on it that is rolled back,
and each request has a session of its own on that connection, whose commits release a savepoint.
A session for everything, as many suites share, would hide a bug that needs one: a row that a
handler forgot to commit, or an attribute that was never loaded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.environment import prepare_environment

prepare_environment()

import httpx
from fastapi.testclient import TestClient
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool, StaticPool
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from app.admin.audit import admin_session_maker
from app.core import database
from app.core.config import settings
from app.core.dependencies import get_read_session, get_session
from app.core.messages import setup_message_handlers
from app.main import app

pytest_plugins = [
    "tests.certificates",
    "tests.databases",
    "tests.queue_processes",
    "tests.quick_passwords",
    "tests.running_service",
]


@pytest.fixture(scope="session")
async def test_engine(test_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test database, whose tables exist for the session."""
    engine = create_async_engine(
        test_database, poolclass=NullPool, connect_args=settings.database_connect_args
    )
    setup_message_handlers()
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
async def one_connection(test_engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine with a single connection, which all tests of the session use in turn."""
    engine = create_async_engine(
        test_engine.url, poolclass=StaticPool, connect_args=settings.database_connect_args
    )
    yield engine
    await engine.dispose()


@pytest.fixture
async def connection(one_connection: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """The session's connection inside a transaction that is rolled back after the test."""
    # Taken anew, savepoints are counted from 1 in each test: the driver has prepared them before,
    # which is one round trip for each instead of two.
    async with one_connection.connect() as connection:
        transaction = await connection.begin()
        yield connection
        await transaction.rollback()


@pytest.fixture
async def db_session(connection: AsyncConnection) -> AsyncIterator[AsyncSession]:
    """A session whose commits the test's end undoes."""
    async with AsyncSession(
        connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
    ) as session:
        yield session


@pytest.fixture
def session_makers(connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that the service opens by itself, beside an endpoint's, join the transaction.

    For what runs before an endpoint or in the background; such sessions take no turns.
    """
    for name, session_class in (
        ("async_session_maker", AsyncSession),
        ("read_session_maker", database.AsyncReadOnlySession),
    ):
        maker = async_sessionmaker(
            connection,
            class_=session_class,
            expire_on_commit=False,
            autoflush=session_class is AsyncSession,
            join_transaction_mode="create_savepoint",
        )
        monkeypatch.setattr(database, name, maker)


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
            database.AsyncReadOnlySession(
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
async def emptied_engine(test_database: str) -> AsyncEngine:
    """The service's async engine, without the connections that earlier tests left in its pool."""
    await database.engine.dispose()
    return database.engine


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


@pytest.fixture(scope="session")
def sync_session_connection(test_database: str) -> Iterator[Connection]:
    """The one psycopg2 connection that all tests of the session use in turn."""
    engine = create_engine(
        settings.SYNC_DATABASE_URL, poolclass=NullPool, connect_args=settings.sync_connect_args
    )
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def sync_db_session(sync_session_connection: Connection) -> Iterator[Session]:
    """A sync session, as the admin and the tasks use, whose commits the test's end undoes.

    `sync_session_maker` and the admin work inside the same transaction until the test ends. It is
    another transaction than `db_session`'s: neither sees what the other has not committed for good.
    """
    transaction = sync_session_connection.begin()
    makers = (database.sync_session_maker, admin_session_maker)
    for maker in makers:
        maker.configure(bind=sync_session_connection, join_transaction_mode="create_savepoint")
    with database.sync_session_maker() as session:
        yield session
    for maker in makers:
        maker.configure(bind=database.sync_engine, join_transaction_mode="conditional_savepoint")
    transaction.rollback()


@pytest.fixture
async def admin_client(sync_db_session: Session) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client logged in to the admin, inside the transaction of `sync_db_session`."""
    from app.core.security import ensure_admin

    ensure_admin(sync_db_session, "tester", "correct horse battery staple")
    sync_db_session.commit()
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post(
            "/admin/login",
            data={"username": "tester", "password": "correct horse battery staple"},
        )
        assert answer.status_code == 302, answer.text
        yield http

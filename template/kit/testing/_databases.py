"""Test databases, Alembic on them, and the connections and sessions of the tests.

Databases are created when missing, their tables made once, removed at the end. A test does
everything in one transaction, rolled back at its end.
"""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import AsyncMock
from uuid import UUID

import httpx
import pytest
from alembic.script import Script, ScriptDirectory
from fastapi import HTTPException
from fastapi.requests import HTTPConnection
from fastapi.routing import RouteContext
from fastapi.testclient import TestClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.schema import DropSchema
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.testclient import WebSocketDenialResponse

from kit import database
from kit.admin import ADMINISTRATORS, admin_session_maker
from kit.database import AsyncReadOnlySession, refuse_further_use
from kit.migrations import (
    compare_with_models,
    init_db,
    load_metadata,
    missing_revisions,
    read_objects,
    run_revision,
)
from kit.places import service
from kit.security import (
    ANYONE,
    PROGRAMS,
    USERS,
    Principal,
    Serves,
    _principals,
    ensure_admin,
    require_principal,
    routes_and_callers,
)
from kit.security import _credentials as credentials
from kit.settings import BASE_DIR, settings
from kit.testing import BASE_DATABASE, change_settings, name_of_test_database
from kit.testing.rehearsal import RowMaker, fill_tables

TEST_SUFFIX = "_test"


def refuse_other_databases(name: str) -> None:
    """Guard every test run against other databases.

    Raises:
        RuntimeError: when it is not the name of a test database, which tests may drop.
    """
    if not name.endswith(TEST_SUFFIX):
        raise RuntimeError(
            f"the tests are configured for the database {name!r}, but they may only use databases "
            f"whose names end in {TEST_SUFFIX}"
        )


def database_engine(database: str) -> Engine:
    """Make an engine in autocommit on one of the server's databases, to create and drop others."""
    url = make_url(settings.SYNC_DATABASE_URL).set(database=database)
    return create_engine(
        url,
        poolclass=NullPool,
        connect_args=settings.sync_connect_args,
        isolation_level="AUTOCOMMIT",
    )


def create_database(name: str) -> None:
    """Create a test database unless it exists, with a connection to the configured one."""
    refuse_other_databases(name)
    with database_engine(os.environ[BASE_DATABASE]).connect() as connection:
        exists = connection.scalar(
            text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}
        )
        if not exists:
            quoted = connection.dialect.identifier_preparer.quote_identifier(name)
            connection.execute(text(f"CREATE DATABASE {quoted} TEMPLATE template0"))


def drop_database(name: str) -> None:
    """Drop a test database, and end the connections to it."""
    refuse_other_databases(name)
    with database_engine(os.environ[BASE_DATABASE]).connect() as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.execute(text(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"))


def empty_database(name: str) -> None:
    """Empty a test database, by dropping its schemas."""
    refuse_other_databases(name)
    with database_engine(name).connect() as connection:
        for schema in inspect(connection).get_schema_names():
            if schema != "information_schema":
                connection.execute(DropSchema(schema, cascade=True))
        connection.execute(text("CREATE SCHEMA public"))


@pytest.fixture(scope="session")
async def test_database() -> AsyncIterator[str]:
    """URL of the test database; its tables exist for the session and are dropped at its end."""
    refuse_other_databases(make_url(settings.DATABASE_URL).database or "")
    create_database(settings.POSTGRES_DB)
    empty_database(settings.POSTGRES_DB)
    await init_db()
    await service.engine.dispose()
    yield settings.DATABASE_URL
    empty_database(settings.POSTGRES_DB)


UNASKED = (
    "this test uses the database and has no fixture of it, so what it writes would stay for the "
    "tests after it. Take `sync_db_session` for a task or the admin, `client` for a route, or "
    "`session_makers` for other async code; tests/README.md has them all"
)


@pytest.fixture(autouse=True)
def no_database_unasked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse the service's engines to a test without a fixture of a database."""
    if {"test_database", "database_for_migrations"} & set(request.fixturenames):
        yield
        return

    def refuse(*_: Any) -> None:
        pytest.fail(UNASKED)  # which no `except Exception` of the code under test catches

    listeners = [
        (engine, name, refuse)
        for engine in (service.engine.sync_engine, service.sync_engine)
        for name in ("do_connect", "checkout")
    ]
    for listener in listeners:
        event.listen(*listener)
    yield
    for listener in listeners:
        event.remove(*listener)


@pytest.fixture(scope="session")
def database_for_migrations() -> Iterator[str]:
    """Name of a database for the tests of migrations; it exists for the session."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    name = name_of_test_database(f"migrations_{settings.POSTGRES_DB}", worker)
    drop_database(name)
    create_database(name)
    yield name
    drop_database(name)


@pytest.fixture
def fresh_database(database_for_migrations: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an empty database, which this process's settings name for one test."""
    empty_database(database_for_migrations)
    change_settings(monkeypatch, POSTGRES_DB=database_for_migrations)
    return database_for_migrations


SAMPLE = """{"info": {"sample": "'DE' || n"}}"""
HOW_TO_SAMPLE = f"`Field(sa_column_kwargs={SAMPLE})`, an SQL expression of the row's number n"

REMEDIES = {
    "23502": "Give a new column a server_default, or fill it before it becomes NOT NULL.",
    "other": "Change the rows first, with op.execute(). If only made-up rows are like this, give "
    f"the column's model a sample: {HOW_TO_SAMPLE}.",
}
"""What helps against an error, by its SQLSTATE code."""


def migrate_with_rows(connection: Connection, script: ScriptDirectory, metadata: MetaData) -> None:
    """Apply each revision, revert it, and apply it again, with made-up rows in every table.

    Fails when a revision does not work with rows, when a downgrade does not restore the tables, and
    when there are no rows of a model.
    """
    for i, revision in enumerate(missing_revisions(script, [])):
        before, earlier = catalogue(connection), RowMaker(connection, metadata)
        connection.commit()
        _run_with_rows(connection, script, revision)
        after = catalogue(connection)
        # No downgrade can keep what only the upgrade allows, such as a member or NULL.
        fill_tables(connection, metadata, first=4 * i + 1, fit=earlier)
        connection.commit()
        _run_with_rows(connection, script, revision, downgrade=True)
        _compare(revision, "downgrade() does not revert", before, catalogue(connection))
        connection.commit()
        _run_with_rows(connection, script, revision)
        _compare(revision, "after a downgrade, upgrade() differs in", after, catalogue(connection))
        empty = fill_tables(connection, metadata, first=4 * i + 3)
        connection.commit()
    if unfilled := [f"{name}: {empty[name]}" for name in empty.keys() & metadata.tables.keys()]:
        lines = [f"No row could be made up. Give a column a sample: {HOW_TO_SAMPLE}.", *unfilled]
        pytest.fail("\n".join(lines), pytrace=False)


def _run_with_rows(
    connection: Connection, script: ScriptDirectory, revision: Script, *, downgrade: bool = False
) -> None:
    try:
        run_revision(connection, script, revision, downgrade=downgrade)
    except DBAPIError as error:
        function = "downgrade" if downgrade else "upgrade"
        remedy = REMEDIES.get(getattr(error.orig, "pgcode", ""), REMEDIES["other"])
        problem = f"{function}() fails where tables have rows"
        pytest.fail(f"{revision.path}: {problem}: {error.orig}\n{remedy}", pytrace=False)


def _compare(revision: Script, problem: str, expected: set[str], found: set[str]) -> None:
    if lines := sorted(expected ^ found):
        pytest.fail("\n".join([f"{revision.path}: {problem}", *lines]), pytrace=False)


catalogue = read_objects


def differences(connection: Connection) -> list[str]:
    """List what differs between a migrated database and the models.

    `make db-migrate` writes what is missing, or says what to write by hand.
    """
    return compare_with_models(connection, load_metadata())


class Outcome(NamedTuple):
    """A command's exit status and its output."""

    status: int
    output: str


def environment_for(database: str, **overrides: str) -> dict[str, str]:
    """Environment of a process that uses another database of the test server."""
    url = settings.model_copy(update={"POSTGRES_DB": database}).DATABASE_URL
    return {**os.environ, "DATABASE_URL": url, "POSTGRES_DB": database, **overrides}


def run_module(
    database: str, *arguments: str, project: Path = BASE_DIR, answer: str = "", **overrides: str
) -> Outcome:
    """Run `python -m …` in a project, with text on its standard input."""
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        env=environment_for(database, **overrides),
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(process.returncode, process.stdout)


def alembic(database: str, *arguments: str, project: Path = BASE_DIR, **overrides: str) -> Outcome:
    """Run `alembic …` in a project."""
    return run_module(database, "alembic", *arguments, project=project, **overrides)


class _Session(AsyncSession):
    async def close(self) -> None:
        """Close the session for good, as `request_session` does."""
        await super().close()
        refuse_further_use(self)


class _ReadSession(_Session, AsyncReadOnlySession):
    pass


def session_on(connection: AsyncConnection) -> AsyncSession:
    """Make a session whose commits release savepoints of the connection's transaction."""
    return _Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")


def read_session_on(connection: AsyncConnection) -> AsyncReadOnlySession:
    """Make such a session for reading only, like that of `ReadSessionDep`."""
    return _ReadSession(
        connection,
        expire_on_commit=False,
        autoflush=False,
        join_transaction_mode="create_savepoint",
    )


@pytest.fixture(scope="session")
async def one_connection(test_engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine with a single connection, shared by all tests of the session."""
    engine = create_async_engine(
        test_engine.url, poolclass=StaticPool, connect_args=settings.database_connect_args
    )
    yield engine
    await engine.dispose()


@pytest.fixture
async def connection(one_connection: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """The session's connection inside a transaction that is rolled back after the test."""
    # Connected anew, so that savepoints are numbered from 1 in each test: the driver has prepared
    # these statements before, which saves one round trip for each.
    async with one_connection.connect() as connection:
        transaction = await connection.begin()
        yield connection
        await transaction.rollback()


@pytest.fixture
def session_makers(connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what the service reads and writes beside an endpoint's session join the transaction.

    For code before an endpoint or in the background; such sessions must not run concurrently.
    """

    def refuse_start(**_: Any) -> None:
        raise RuntimeError(
            "this test's sessions are in its own event loop, and a TestClient that starts the "
            "service has another. Use `client`, or a test with `sync_client` alone"
        )

    makers = {
        "async_session_maker": partial(session_on, connection),
        "read_session_maker": partial(read_session_on, connection),
    }
    for name, maker in makers.items():
        vars(maker)["configure"] = refuse_start
        monkeypatch.setattr(service.module("core.database"), name, maker)
    one: Any = connection.sync_connection
    monkeypatch.setattr(database, "connect_for_reading", partial(nullcontext, one))
    monkeypatch.setattr(database, "connect_for_writing", partial(_in_savepoint, one))


@contextmanager
def _in_savepoint(connection: Connection) -> Iterator[Connection]:
    with connection.begin_nested():
        yield connection


@pytest.fixture
async def emptied_engine(test_database: str) -> AsyncEngine:
    """The service's async engine, without the connections that earlier tests left in its pool."""
    await service.engine.dispose()
    return service.engine


@pytest.fixture(scope="session")
def sync_session_connection(test_database: str) -> Iterator[Connection]:
    """The one psycopg2 connection, shared by all tests of the session."""
    engine = create_engine(
        settings.SYNC_DATABASE_URL, poolclass=NullPool, connect_args=settings.sync_connect_args
    )
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def sync_db_session(sync_session_connection: Connection) -> Iterator[Session]:
    """A sync session, as the admin and the tasks use, whose commits are rolled back at the end.

    `sync_session_maker` and the admin work inside the same transaction until the test ends. It is
    another transaction than `db_session`'s: neither sees the uncommitted rows of the other.
    """
    transaction = sync_session_connection.begin()
    makers = (service.sync_session_maker, admin_session_maker)
    for maker in makers:
        maker.configure(bind=sync_session_connection, join_transaction_mode="create_savepoint")
    with service.sync_session_maker() as session:
        yield session
    for maker in makers:
        maker.configure(bind=service.sync_engine, join_transaction_mode="conditional_savepoint")
    transaction.rollback()


@contextmanager
def committing_workers(count: int) -> Iterator[Engine]:
    """Let so many workers commit for good, with one connection each; a test deletes its rows."""
    engine = create_engine(
        settings.SYNC_DATABASE_URL,
        connect_args=settings.sync_connect_args,
        pool_size=count,
        max_overflow=0,
        pool_timeout=5,
    )
    service.sync_session_maker.configure(bind=engine)
    try:
        yield engine
    finally:
        service.sync_session_maker.configure(bind=service.sync_engine)
        engine.dispose()


@pytest.fixture
async def admin_client(sync_db_session: Session) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client logged in to the admin, inside the transaction of `sync_db_session`."""
    ensure_admin(sync_db_session, "tester", "correct horse battery staple")
    sync_db_session.commit()
    transport = httpx.ASGITransport(app=service.application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post(
            "/admin/login", data={"username": "tester", "password": "correct horse battery staple"}
        )
        assert answer.status_code == 302, answer.text
        yield http


@pytest.fixture
def call_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Principal | None], None]:
    """A function that chooses who sends the requests that follow; None has no credentials."""
    change_settings(monkeypatch, ENVIRONMENT="production")  # elsewhere that is the developer

    def choose(caller: Principal | None) -> None:
        monkeypatch.setattr(_principals, "_providers", [AsyncMock(return_value=caller)])

    return choose


@pytest.fixture(scope="session", autouse=True)
def quick_password_hashes() -> Iterator[None]:
    """Hash passwords with Argon2's lowest parameters."""
    quick = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)])
    credentials._dummy_hash.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "_hasher", quick)
        yield
    credentials._dummy_hash.cache_clear()


@dataclass(frozen=True)
class GuardedRoute:
    """A route below `/api`, or another one that asks who calls."""

    route: RouteContext
    policy: Serves | None

    def __str__(self) -> str:
        """Its methods and path, as the name of a test."""
        return f"{'/'.join(sorted(self._methods)) or 'any'} {self.route.path}"

    @property
    def _methods(self) -> set[str]:
        return getattr(self.route, "methods", None) or set()

    @property
    def _callers(self) -> dict[str, Principal]:
        scope = (self.policy or Serves()).scope
        anonymous = {"is_anonymous": True}
        return {
            "program": Principal(PROGRAMS, "1", "one", scopes=frozenset({scope})),
            "program with another scope": Principal(PROGRAMS, "2", "two", scopes=frozenset({"x"})),
            "user": Principal(USERS, str(UUID(int=1)), "user"),
            "anonymous user": Principal(USERS, str(UUID(int=2)), "anonymous", anonymous),
        }

    def says(self) -> dict[str, bool]:
        """Whom it says to serve; a route that says nothing is for programs."""
        policy = self.policy or Serves()
        is_open = ANYONE in policy.kinds
        callers = self._callers.items()
        return {"no one": is_open} | {
            name: is_open or policy.serves(caller) for name, caller in callers
        }

    def serves(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
        """Whom it serves: each sends a request, and the endpoint stands back."""

        async def stop(request: HTTPConnection) -> None:
            await require_principal(request)
            raise HTTPException(HTTPStatus.IM_A_TEAPOT)

        callers = {"no one": None, **self._callers}
        if self.policy is None or ANYONE in self.policy.kinds:
            return dict.fromkeys(callers, True)
        monkeypatch.setitem(service.application.dependency_overrides, require_principal, stop)
        served = {}
        for name, caller in callers.items():
            monkeypatch.setattr(_principals, "_providers", [AsyncMock(return_value=caller)])
            served[name] = self._status() == HTTPStatus.IM_A_TEAPOT
        return served

    def _status(self) -> int:
        path = re.sub(r"\{(\w+)\}", self._example, str(self.route.path_format))
        client = TestClient(service.application, raise_server_exceptions=False)
        if self._methods:
            return client.request(min(self._methods), path).status_code
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path):
            pass
        return refused.value.status_code

    def _example(self, parameter: re.Match[str]) -> str:
        convertor = self.route.param_convertors[parameter[1]]
        return "1" if re.fullmatch(convertor.regex, "1") else str(UUID(int=1))


def guarded_routes() -> list[GuardedRoute]:
    """List the routes below `/api`, and others that ask who calls, administrators' apart."""
    return [
        GuardedRoute(route, policy)
        for route, policy in routes_and_callers(service.application)
        if f"{route.path}/".startswith("/api/") or (policy and ADMINISTRATORS not in policy.kinds)
    ]

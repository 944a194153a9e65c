"""Test databases: created when missing, their tables made once, removed at the end."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import DropSchema

from kit.migrations import init_db
from kit.places import service
from kit.settings import settings
from kit.testing._environment import BASE_DATABASE, change_settings, name_of_test_database

TEST_SUFFIX = "_test"


def refuse_other_databases(url: str) -> None:
    """Guard every test run against other databases.

    Raises:
        RuntimeError: when the URL's database is not a test database, which tests may drop.
    """
    name = make_url(url).database or ""
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
    refuse_other_databases(str(database_engine(name).url))
    with database_engine(os.environ[BASE_DATABASE]).connect() as connection:
        exists = connection.scalar(
            text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}
        )
        if not exists:
            quoted = connection.dialect.identifier_preparer.quote_identifier(name)
            connection.execute(text(f"CREATE DATABASE {quoted} TEMPLATE template0"))


def drop_database(name: str) -> None:
    """Drop a test database, and end the connections to it."""
    refuse_other_databases(str(database_engine(name).url))
    with database_engine(os.environ[BASE_DATABASE]).connect() as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.execute(text(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"))


def empty_database(name: str) -> None:
    """Empty a test database, by dropping its schemas."""
    refuse_other_databases(str(database_engine(name).url))
    with database_engine(name).connect() as connection:
        for schema in inspect(connection).get_schema_names():
            if schema != "information_schema":
                connection.execute(DropSchema(schema, cascade=True))
        connection.execute(text("CREATE SCHEMA public"))


@pytest.fixture(scope="session")
async def test_database() -> AsyncIterator[str]:
    """URL of the test database; its tables exist for the session and are dropped at its end."""
    refuse_other_databases(settings.SYNC_DATABASE_URL)
    create_database(settings.POSTGRES_DB)
    empty_database(settings.POSTGRES_DB)
    await init_db()
    await service.engine.dispose()
    yield settings.DATABASE_URL
    empty_database(settings.POSTGRES_DB)


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

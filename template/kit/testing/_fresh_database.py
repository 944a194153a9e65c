"""A database without any table: the session's test database has been migrated already."""

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from kit.settings import settings
from kit.testing._changed_settings import change_settings
from kit.testing._databases import empty_database
from kit.testing._environment import BASE_DATABASE, name_of_test_database


@pytest.fixture(scope="session")
def database_for_migrations() -> Iterator[str]:
    """Name of a database of this area's own; it exists for the session."""
    database = name_of_test_database(
        f"migrations_{settings.POSTGRES_DB}", os.environ.get("PYTEST_XDIST_WORKER")
    )
    with _server() as connection:
        name = connection.dialect.identifier_preparer.quote_identifier(database)
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        yield database
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def fresh_database(database_for_migrations: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an empty database that this process's settings point at for one test."""
    empty_database(database_for_migrations)
    change_settings(monkeypatch, POSTGRES_DB=database_for_migrations)
    return database_for_migrations


def _server() -> Connection:
    engine = create_engine(
        make_url(settings.SYNC_DATABASE_URL).set(database=os.environ[BASE_DATABASE]),
        poolclass=NullPool,
        connect_args=settings.sync_connect_args,
        isolation_level="AUTOCOMMIT",
    )
    return engine.connect()

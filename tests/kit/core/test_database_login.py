"""A real log-in with passwords that break URLs which were put together carelessly."""

import os
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.core.config import Settings, settings

HOSTILE_PASSWORDS = ["@:/#?%+&= end", "p%40%", "naïve 🔑 пароль", "'\"\\ $(x) `y` {z}", "[::1]"]


@pytest.fixture(params=HOSTILE_PASSWORDS)
def login(request: pytest.FixtureRequest, test_database: str) -> Iterator[Settings]:
    """Settings of a role whose password is hostile; the role exists for one test."""
    server = make_url(settings.SYNC_DATABASE_URL)
    # Roles belong to the server, which the workers of pytest-xdist share.
    role = "hostile_" + os.environ.get("PYTEST_XDIST_WORKER", "alone")
    engine = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    literal = request.param.replace("'", "''")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD E'{_escape(literal)}'")
        yield Settings(
            POSTGRES_HOST=server.host,
            POSTGRES_PORT=server.port,
            POSTGRES_USER=role,
            POSTGRES_PASSWORD=request.param,
            POSTGRES_DB=server.database,
            DATABASE_URL=None,
        )
        connection.exec_driver_sql(f"DROP ROLE {role}")


def _escape(literal: str) -> str:
    return literal.replace("\\", "\\\\").replace("%", "%%")


async def test_asyncpg_logs_in(login: Settings) -> None:
    engine = create_async_engine(login.DATABASE_URL, connect_args=login.database_connect_args)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_user")) == login.POSTGRES_USER
    await engine.dispose()


def test_psycopg2_logs_in(login: Settings) -> None:
    engine = create_engine(login.SYNC_DATABASE_URL, connect_args=login.sync_connect_args)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == login.POSTGRES_USER
    engine.dispose()


async def test_another_password_is_refused(login: Settings) -> None:
    """The server does ask for the password; else the tests above would show nothing."""
    wrong = login.model_copy(update={"POSTGRES_PASSWORD": None})
    url = make_url(wrong.DATABASE_URL).set(password="wrong")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url.set(drivername="postgresql").render_as_string(False))
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url.set(drivername="postgresql").render_as_string(False))

"""Connections outside the pools, and the name that every connection carries."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asyncpg import PostgresError  # type: ignore[import-untyped]
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from kit.process import application_name, this_process
from kit.settings import StartupError, settings, where_set


def name_connections(engine: Engine) -> None:
    """Set `service:role@host:pid` as the application name of each connection of the engine.

    The name is made when a connection is: an engine exists before its process knows its role, and
    a forked worker has another process id.
    """

    @event.listens_for(engine, "do_connect")
    def _name(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
        name = application_name(settings, this_process.role)
        if engine.driver == "asyncpg":
            given = parameters.get("server_settings", {})
            parameters["server_settings"] = given | {"application_name": name}
        else:
            parameters["application_name"] = name


REFUSED_LOGIN = ("28000", "28P01")
MISSING_DATABASE = "3D000"
NO_CONNECTION_LEFT = "53300"
FOREIGN_STATEMENT = ("26000", "42P05")
"""SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


@asynccontextmanager
async def connect(
    url: str | None = None, connect_args: dict[str, Any] | None = None
) -> AsyncIterator[AsyncConnection]:
    """Open a connection outside the pools, and close it at the end.

    Args:
        url: an asyncpg URL; the configured database when left out.
        connect_args: arguments for asyncpg beside the URL; as configured when left out.

    Raises:
        StartupError: when the database cannot be reached or refuses the login, or when a pooler is
            in between that no setting names.
    """
    engine = create_async_engine(
        url or settings.DATABASE_URL,
        poolclass=NullPool,
        connect_args=settings.database_connect_args if connect_args is None else connect_args,
    )
    name_connections(engine.sync_engine)
    try:
        try:
            connection = await engine.connect()
        except (OSError, PostgresError, DBAPIError) as error:
            raise StartupError(_explain(error, engine.url.host, engine.url.port)) from None
        try:
            if url is None:
                await _refuse_unnamed_pooler(connection)
            yield connection
        finally:
            await connection.close()
    finally:
        await engine.dispose()


async def _refuse_unnamed_pooler(connection: AsyncConnection) -> None:
    """Check that there is no pooler, unless a setting or the host names it.

    A pooler gives its clients process ids of its own, for `CancelRequest`, which PostgreSQL's own
    answer contradicts.
    """
    if settings.POSTGRES_POOLER or settings.uses_local_postgres or settings.pooler_mode != "none":
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        is_direct = await driver.fetchval("SELECT pg_backend_pid()") == driver.get_server_pid()
    except PostgresError as error:
        if error.sqlstate not in FOREIGN_STATEMENT:
            raise
        is_direct = False
    if not is_direct:
        raise StartupError(_unnamed_pooler(f"{settings.POSTGRES_HOST}:{settings.POSTGRES_PORT}"))


def _unnamed_pooler(server: str) -> str:
    return (
        f"{server} is a connection pooler, which POSTGRES_POOLER does not say. Set "
        "POSTGRES_POOLER=transaction, or =session where the pooler assigns a connection for as "
        "long as it is open. Otherwise queries fail under load."
    )


def _explain(error: Exception, host: str | None, port: int | None) -> str:
    server = f"PostgreSQL at {host or settings.POSTGRES_HOST}:{port or settings.POSTGRES_PORT}"
    if not isinstance(error, OSError):
        # SQLAlchemy 2.1 wraps what the driver raises while it connects, 2.0 does not.
        return _explain_refusal(error.orig if isinstance(error, DBAPIError) else error, server)
    if isinstance(error, ssl.SSLError):
        return (
            f"the certificate of {server} is not trusted ({error.reason}). Download the server's "
            f"certificate and name its file in POSTGRES_CA_FILE ({where_set('POSTGRES_CA_FILE')})."
        )
    if "SSL" in str(error):
        return (
            f"{server} offers no TLS, but a host that is not local requires it. Turn TLS on at the "
            "server or, if the network between is trusted, set POSTGRES_SSLMODE=disable."
        )
    reason = "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or error)
    return (
        f"{server} cannot be reached ({reason}). Start it, or correct "
        f"{_settings('POSTGRES_HOST', 'POSTGRES_PORT')}."
    )


def _explain_refusal(error: BaseException | None, server: str) -> str:
    code = getattr(error, "sqlstate", None)
    said = str(error).partition("\n")[0].rpartition(">: ")[2]
    if code in REFUSED_LOGIN or "password authentication failed" in said:
        return (
            f"{server} refuses the login of {settings.POSTGRES_USER!r} ({said}). Correct "
            f"{_settings('POSTGRES_USER', 'POSTGRES_PASSWORD')}."
        )
    if code == MISSING_DATABASE:
        return (
            f"{server} has no database {settings.POSTGRES_DB!r}. Create it with "
            f"`createdb {settings.POSTGRES_DB}`, or correct {_settings('POSTGRES_DB')}."
        )
    if code in FOREIGN_STATEMENT:
        return _unnamed_pooler(server)
    if code == NO_CONNECTION_LEFT:
        return (
            f"{server} has no connection left ({said}). Stop what else uses it, or lower "
            f"POSTGRES_POOL_SIZE ({where_set('POSTGRES_POOL_SIZE')})."
        )
    return (
        f"{server} refuses the connection ({said}). Check "
        f"{_settings('POSTGRES_HOST', 'POSTGRES_USER')}."
    )


def _settings(*names: str) -> str:
    """The settings to correct, and where each is set: `DATABASE_URL` where that is in use."""
    decisive = ["DATABASE_URL"] if settings.database_url_override else list(names)
    return " and ".join(f"{name} ({where_set(name)})" for name in decisive)

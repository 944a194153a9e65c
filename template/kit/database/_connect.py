"""Connections outside the pools, and what every connection has: a name, and an end when it is dead.

A firewall or a pooler can lose a connection without a word to either side. Whoever waits on it
would wait for ever, and six such events would use up a pool. Hence a timeout for each statement of
a request (`POSTGRES_COMMAND_TIMEOUT`), a watch over the sync ones (`kit.database._watch`), and the
kernel's own probes.
"""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from asyncpg import PostgresError  # type: ignore[import-untyped]
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool

from kit.database._watch import watched
from kit.process import application_name, pool_use, this_process
from kit.settings import StartupError, settings, where_set


def name_connections(engine: Engine) -> None:
    """Name each connection of the engine `service:role@host:pid`, and give it up when it is dead.

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
            parameters |= {"application_name": name} | {name: value for name, _, value in _PROBES}
            parameters["connection_factory"] = watched(parameters)

    @event.listens_for(engine, "connect")
    def _probe(connection: Any, _record: object) -> None:
        if engine.driver == "asyncpg":
            transport = connection.driver_connection._transport  # noqa: SLF001 (it has no other way)
            _probe_when_idle(transport.get_extra_info("socket"))

    event.listen(engine, "handle_error", _give_up)
    if isinstance(engine.pool, QueuePool):
        plain: Any = engine.pool.__class__
        engine.pool.__class__ = _counting(plain, engine.driver)


@cache
def _counting(base: Any, driver: str) -> Any:
    """Derive a class of pools that count their waits; the pool that replaces one is of it too."""

    class CountingPool(base):  # type: ignore[misc]
        def connect(self) -> Any:
            use = pool_use[driver]
            try:
                if self.checkedout() < self.size():
                    return super().connect()
                with use.waiting(PoolTimeoutError):
                    return super().connect()
            except Exception as error:
                # Wrapped or not: SQLAlchemy 2.1 wraps what the driver raises while it connects.
                cause = error.orig if isinstance(error, DBAPIError) else error
                code = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
                use.refusals += code in REFUSED_CONNECTION
                raise

    return CountingPool


_PROBES = (
    ("keepalives_idle", "TCP_KEEPIDLE", 20),  # seconds; firewalls forget after a minute or more
    ("keepalives_interval", "TCP_KEEPINTVL", 5),
    ("keepalives_count", "TCP_KEEPCNT", 3),
    ("tcp_user_timeout", "TCP_USER_TIMEOUT", 10_000),  # ms that sent data stays unacknowledged
)
"""How the kernel finds out that an idle connection is dead: libpq's names, and the kernel's."""


def _probe_when_idle(link: socket.socket) -> None:
    if link.family == socket.AF_UNIX:
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for _, name, value in _PROBES:
        if option := getattr(socket, name, None):  # macOS has not all of them
            link.setsockopt(socket.IPPROTO_TCP, option, value)


def _give_up(context: ExceptionContext) -> None:
    """Replace the pool's connections when one gets no answer, or leads to a read-only server.

    After a failover, connections still lead to the old primary, which became a standby.
    """
    error, connection = context.original_exception, context.connection
    if connection is None or connection.invalidated:
        return
    if getattr(error, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True
    elif isinstance(error, TimeoutError):
        context.is_disconnect = True
        # At once: a graceful end would wait for the answer that does not come.
        connection.connection.driver_connection.terminate()  # type: ignore[union-attr]


REFUSED_LOGIN = ("28000", "28P01")
MISSING_DATABASE = "3D000"
NO_CONNECTION_LEFT = "53300"
FOREIGN_STATEMENT = ("26000", "42P05")
REFUSED_CONNECTION = (NO_CONNECTION_LEFT, "XX000")  # the second one is Supabase's pooler's
READ_ONLY = "25006"
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
        # A migration may take as long as it takes.
        connect_args=settings.database_connect_args | {"command_timeout": None}
        if connect_args is None
        else connect_args,
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

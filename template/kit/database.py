"""The database: sessions, rows without one, connections outside the pools, and an end of dead ones.

There is a request's own session, short ones for all other code, and one that refuses to write. Rows
are read or written without a session for busy endpoints, at a fraction of the cost.

A firewall or a pooler can lose a connection without a word to either side. Whoever waits on it
would wait for ever, and six such events would use up a pool. Hence a timeout for each statement of
a request (`POSTGRES_COMMAND_TIMEOUT`), a watch over the sync ones, and the kernel's own probes.

The watch: psycopg2 has no timeout, and a task's statement may well take minutes. So a thread asks
the database on a new connection whether it still runs a statement that has waited for some seconds.
Where it does not, twice in a row, and nothing was sent or received between, the answer is lost: the
socket is shut down, and the waiting code gets an `OperationalError`. Where the database cannot be
asked, nothing is ended.
"""

import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)
from functools import cache
from typing import Any, NoReturn, TypeVar

import psycopg2
from anyio import CancelScope
from asyncpg import PostgresError  # type: ignore[import-untyped]
from psycopg2 import extensions
from pydantic import BaseModel
from sqlalchemy import Connection, Engine, Executable, TextClause, event, tuple_
from sqlalchemy import inspect as inspect_model
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.orm import Mapper, ORMExecuteState, configure_mappers
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.sql import visitors
from sqlalchemy.util import greenlet_spawn
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from kit.conventions import row_security_remedies, tables_without_row_security  # noqa: F401 (also this room's)
from kit.extensions import load_extensions
from kit.places import service
from kit.process import application_name, pool_use, this_process
from kit.settings import StartupError, settings, where_set

Row = TypeVar("Row")


def load_models() -> None:
    """Import all models and resolve their relationships, as SQLAlchemy does at the first query.

    Raises:
        StartupError: when one is wrong, with SQLAlchemy's reason, which names model and attribute.
    """
    service.module("models")
    load_extensions("models")
    try:
        configure_mappers()
    except SQLAlchemyError as error:
        raise StartupError(f"a relationship of the models is wrong: {error}") from error


class SessionClosedError(InvalidRequestError):
    """A request's session was used after its endpoint had returned."""


@asynccontextmanager
async def request_session(maker: Callable[[], AsyncSession]) -> AsyncIterator[AsyncSession]:
    """Open a session in a dependency, and close it however the request ends.

    It cannot be used afterwards. FastAPI shields the end of a dependency from cancellation; other
    code calls `open_session`.
    """
    # Not `async with maker()`: that closes in a task of its own, which costs each request 50 µs.
    session = maker()
    try:
        yield session
    finally:
        await session.close()
        refuse_further_use(session)


@asynccontextmanager
async def _shielded(maker: Callable[[], AsyncSession]) -> AsyncIterator[AsyncSession]:
    session = maker()
    try:
        yield session
    finally:
        with CancelScope(shield=True):  # otherwise a cancellation could stop it half-way
            await session.close()
        refuse_further_use(session)


def open_session() -> AbstractAsyncContextManager[AsyncSession]:
    """Open a session beside those of requests, with `async with`.

    For code that outlives its request or lasts, such as streams, background tasks and WebSockets.
    It holds a connection from its first statement until it commits or ends, so keep it short.
    """
    return _shielded(service.async_session_maker)


def open_read_session() -> AbstractAsyncContextManager[AsyncSession]:
    """Open such a session that only reads, in autocommit; it holds a connection until it ends."""
    return _shielded(service.read_session_maker)


async def stream_rows(statement: SelectOfScalar[Row], *, batch: int = 200) -> AsyncIterator[Row]:
    """Read the rows of a table batch by batch, holding no connection while they are sent.

    Each batch is read in a session of its own, so rows that change meanwhile may be seen or not.

    Args:
        statement: `select(Model)`, with conditions and loader options of your own.
        batch: rows that are read at once and in memory together.

    Yields:
        The rows in the order of the primary key, detached from their session.

    Raises:
        ValueError: when the statement selects no model, or has an order or limit of its own.
    """
    model = statement.column_descriptions[0]["entity"]
    if model is None or statement.column_descriptions[0]["expr"] is not model:
        raise ValueError("stream_rows reads whole rows: pass `select(Model)`, not columns")
    if statement._order_by_clauses or statement._has_row_limiting_clause:  # noqa: SLF001
        raise ValueError(
            "stream_rows orders by the primary key and reads to the end: leave out order_by, "
            "limit and offset"
        )
    mapper: Mapper[Any] = inspect_model(model)
    keys = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
    following = statement.order_by(*keys).limit(batch)
    while True:
        async with open_read_session() as session:
            rows = (await session.exec(following)).unique().all()
        if len(rows) == batch:
            last = tuple_(*mapper.primary_key_from_instance(rows[-1]))
            following = statement.where(tuple_(*keys) > last).order_by(*keys).limit(batch)
        for row in rows:
            yield row
        if len(rows) < batch:
            return


def refuse_further_use(session: AsyncSession) -> None:
    """Make a closed session raise when it is used: SQLAlchemy would open it again without a word.

    No one would close it again, and its connection would be lost to the pool.
    """
    # Not `close_resets_only=False`, whose message names no remedy: this is what it checks.
    session.sync_session._autobegin_t = _refuse  # type: ignore[method-assign]  # noqa: SLF001


def _refuse(*_: object, **__: object) -> NoReturn:
    raise SessionClosedError(
        "use `async with open_session() as session` of kit.database in a stream, background task "
        "or anything else that continues after its endpoint has returned: the request's session "
        "is closed by then"
    )


class ReadOnlyViolationError(RuntimeError):
    """A read-only session was used to write; the endpoint needs `SessionDep` instead."""


class ReadOnlySession(Session):
    """A session that refuses flushes and all statements but reads."""


@event.listens_for(ReadOnlySession, "before_flush")
def _refuse_flush(session: ReadOnlySession, *_: object) -> None:
    changed = [*session.new, *session.dirty, *session.deleted]
    raise ReadOnlyViolationError(f"a read-only session cannot write {changed!r}; use SessionDep")


MOST_KNOWN_READS = 500
"""As many as an engine keeps compiled."""

_known_reads: set[Any] = set()
"""Cache keys of statements that were found to read."""


@event.listens_for(ReadOnlySession, "do_orm_execute")
def _refuse_anything_but_reads(state: ORMExecuteState) -> None:
    refuse_writes(state.statement)


def refuse_writes(statement: Any) -> None:
    """Check that a statement only reads.

    Raises:
        ReadOnlyViolationError: when it writes, locks rows, or is not known to read.
    """
    # Statements that differ in more than values have other keys, which SQLAlchemy makes anyway.
    cached = statement._generate_cache_key()  # noqa: SLF001
    if cached and cached.key in _known_reads:
        return
    if not _only_reads(statement):
        raise ReadOnlyViolationError(
            f"a read-only session only selects, and not for update: {statement}; use SessionDep"
        )
    if len(_known_reads) >= MOST_KNOWN_READS:
        _known_reads.clear()
    if cached:
        _known_reads.add(cached.key)


def _only_reads(statement: Any) -> bool:
    if any(getattr(part, "is_dml", False) for part in visitors.iterate(statement)):
        return False
    text = getattr(statement, "element", statement)  # `from_statement` holds the text
    text = getattr(text, "element", text)  # so does `text(…).columns(…)`
    if isinstance(text, TextClause):
        return _is_read(text.text)
    return statement.is_select and getattr(statement, "_for_update_arg", None) is None


# Quoted text, quoted names and comments, within which a word means nothing.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*' | "[^"]*" | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*.*?\*/""",
    re.DOTALL | re.VERBOSE,
)
_READ = re.compile(r"[\s(]*(select|with|values|table|show|explain)\b", re.IGNORECASE)
_WRITE = re.compile(
    r"\b(insert|update|delete|merge|into)\b | \bfor\s+(key\s+)?share\b | ;\s*\S",
    re.IGNORECASE | re.VERBOSE,
)


def _is_read(statement: str) -> bool:
    """Whether SQL reads; a column named like a keyword makes it count as a write."""
    words = _QUOTED.sub(" ", statement)
    return bool(_READ.match(words)) and not _WRITE.search(words)


class AsyncReadOnlySession(AsyncSession):
    """The async counterpart of `ReadOnlySession`."""

    sync_session_class = ReadOnlySession


Output = TypeVar("Output", bound=BaseModel)


async def read_row(statement: Executable, output: type[Output], /, **values: Any) -> Output | None:
    """Read one row, or None where there is none; see `read_rows`."""
    rows = await read_rows(statement, output, **values)
    return rows[0] if rows else None


async def read_rows(statement: Executable, output: type[Output], /, **values: Any) -> list[Output]:
    """Read rows for a busy endpoint: no session, no model, and autocommit as `ReadSessionDep`.

    Args:
        statement: `select(Invoice)` or columns of it, made once in the module, whose values are
            `bindparam("invoice_id")`. It loads no relationships.
        output: the model of a row, made from columns of the same names.
        values: of the statement's parameters.

    Raises:
        ReadOnlyViolationError: when the statement writes or locks.
        pydantic.ValidationError: when a row does not fit the model.
    """
    refuse_writes(statement)
    return await _run(connect_for_reading, statement, output, values)


async def write_row(statement: Executable, output: type[Output], /, **values: Any) -> Output | None:
    """Write one row for a busy endpoint: one statement, which is committed when this returns.

    Args:
        statement: `insert(Invoice).returning(Invoice)`, or an `update` or `delete` that returns the
            row. Defaults are those of the table alone, not those of the model.
        output: the model of a row, made from columns of the same names.
        values: of an `insert`, its columns'; else of the statement's parameters.

    Returns:
        The row as it is now; None where none was written.

    Raises:
        sqlalchemy.exc.IntegrityError: when a constraint refuses it, which the API answers with 409.
        pydantic.ValidationError: when the row does not fit the model; it has been written.
    """
    rows = await write_rows(statement, output, **values)
    return rows[0] if rows else None


async def write_rows(statement: Executable, output: type[Output], /, **values: Any) -> list[Output]:
    """Write as many rows as the one statement does; see `write_row`."""
    return await _run(connect_for_writing, statement, output, values)


async def _run(
    connect: Callable[[], AbstractContextManager[Connection]],
    statement: Executable,
    output: type[Output],
    values: dict[str, Any],
) -> list[Output]:
    def fetch() -> list[dict[str, Any]]:
        with connect() as connection:
            result = connection.execute(statement, values)
            names = tuple(result.keys())
            return [dict(zip(names, row, strict=True)) for row in result]

    return [output.model_validate(row) for row in await greenlet_spawn(fetch)]


def connect_for_reading() -> AbstractContextManager[Connection]:
    """Take a connection of the sessions that only read; a test's is inside its transaction."""
    reading: Engine = service.read_session_maker.kw["bind"].sync_engine
    writing: Engine = service.async_session_maker.kw["bind"].sync_engine
    usual = {**writing.get_execution_options(), "isolation_level": "AUTOCOMMIT"}
    is_usual = reading.pool is writing.pool and reading.get_execution_options() == usual
    return _in_autocommit(writing) if is_usual else reading.connect()


def connect_for_writing() -> AbstractContextManager[Connection]:
    """Take one of the other sessions, in autocommit; a test's is inside a savepoint."""
    return _in_autocommit(service.async_session_maker.kw["bind"].sync_engine)


@contextmanager
def _in_autocommit(engine: Engine) -> Iterator[Connection]:
    """Set the driver's own attribute: SQLAlchemy's option is a seventh of a read's instructions."""
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.autocommit = True
        try:
            yield connection
        finally:
            driver.autocommit = False


ASYNC_IN_WORKER = (
    "a worker has no async connections: the plan counts none for it, and each `asyncio.run` would "
    "leave some to a loop that has ended. In a task read and write with "
    "`with sync_session_maker() as session`, of app.core.database."
)


def name_connections(engine: Engine) -> None:
    """Name each connection of the engine `service:role@host:pid`, and give it up when it is dead.

    The name is made when a connection is: an engine exists before its process knows its role, and
    a forked worker has another process id.
    """

    @event.listens_for(engine, "do_connect")
    def _name(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
        name = application_name(settings, this_process.role)
        if engine.driver == "asyncpg":
            if this_process.role in ("worker", "worker-child"):
                raise RuntimeError(ASYNC_IN_WORKER)
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
        if await driver.fetchval("SELECT pg_backend_pid()") == driver.get_server_pid():
            return
    except PostgresError as error:
        if error.sqlstate not in FOREIGN_STATEMENT:
            raise
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


CHECK_SECONDS = 4.0
"""A lost answer is noticed after two or three times as long."""
ASK_SECONDS = 3.0
"""Timeout of the question, whose own connection may be lost too."""

# The server keeps at least the first 100 bytes of a statement. Who asks has the name of who waits;
# other processes of the service may run the same. A pooler's connections may have one of its own.
# This process may run the same again and again, such as COMMIT, but each for a shorter time; and a
# connection of asyncpg that was lost between two of its messages is active for ever.
_RUNS = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity, current_setting('application_name') AS own
    WHERE state = 'active' AND pid <> pg_backend_pid() AND left(query, 90) = left(%s, 90)
        AND query_start < clock_timestamp() - make_interval(secs => %s)
        AND wait_event IS DISTINCT FROM 'ClientRead'
        AND datname = current_database() AND (application_name = own
            OR split_part(application_name, ':', 1) <> split_part(own, ':', 1))
)
"""


class _Watch:
    """The calls of this process that wait for the database, and the thread that looks at them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[_WatchedConnection, tuple[float, extensions.cursor | None]] = {}
        self._is_running = False

    def run(
        self,
        connection: "_WatchedConnection",
        cursor: extensions.cursor | None,
        call: Callable[..., Any],
        *arguments: Any,
    ) -> Any:
        """Make a call that waits for the database, and return its result."""
        with self._lock:
            self._waits[connection] = (time.monotonic(), cursor)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._look, daemon=True).start()
        try:
            return call(*arguments)
        finally:
            with self._lock:
                self._waits.pop(connection, None)

    def _look(self) -> None:
        suspects: dict[Any, bytes] = {}
        while True:
            time.sleep(CHECK_SECONDS)
            with self._lock:
                waits = list(self._waits.items())
            before, suspects = suspects, {}
            for connection, wait in waits:
                waited, cursor = time.monotonic() - wait[0], wait[1]
                if waited < CHECK_SECONDS or not _is_lost(connection, cursor, waited):
                    continue
                with self._lock:
                    if self._waits.get(connection) is wait:
                        with socket.socket(fileno=os.dup(connection.fileno())) as link:
                            suspects[wait] = _traffic(link)
                            if before.get(wait) == suspects[wait]:
                                link.shutdown(socket.SHUT_RDWR)


def _is_lost(
    connection: "_WatchedConnection", cursor: extensions.cursor | None, waited: float
) -> bool:
    """Whether the database does not run the statement, whose answer has not come for so long.

    It may have begun later, in the queue of a pooler: it counts when it runs a quarter of the time.
    """
    statement = b"COMMIT" if cursor is None else cursor.query or b""
    deadline = time.monotonic() + ASK_SECONDS
    try:
        with closing(psycopg2.connect(**connection.parameters, async_=True)) as other:
            _finish(other, deadline)
            answer = other.cursor()
            answer.execute(_RUNS, [statement.decode(errors="replace"), waited / 4])
            _finish(other, deadline)
            return bool(answer.fetchone() == (False,))
    except psycopg2.Error:
        return False


def _finish(connection: extensions.connection, deadline: float) -> None:
    """Wait for what an asynchronous connection does, until the deadline."""
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        is_reading = state == extensions.POLL_READ
        poll.register(connection.fileno(), select.POLLIN if is_reading else select.POLLOUT)
        if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
            raise psycopg2.OperationalError("no answer in time")


def _traffic(link: socket.socket) -> bytes:
    """What Linux has counted of bytes acknowledged and received; empty elsewhere."""
    if link.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return b""
    return link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)[120:]


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.__init__)  # type: ignore[misc]


class _WatchedCursor(extensions.cursor):
    def execute(self, *arguments: Any) -> None:
        _watch.run(self.connection, self, super().execute, *arguments)  # type: ignore[arg-type]


class _WatchedConnection(extensions.connection):
    parameters: Mapping[str, Any]

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        return super().cursor(*arguments, **{"cursor_factory": _WatchedCursor} | options)

    def commit(self) -> None:
        _watch.run(self, None, super().commit)

    def rollback(self) -> None:
        _watch.run(self, None, super().rollback)


def watched(parameters: Mapping[str, Any]) -> Callable[..., extensions.connection]:
    """Make the `connection_factory` of psycopg2 for connections with these parameters."""
    bound = {"parameters": dict(parameters)}
    return type(_WatchedConnection.__name__, (_WatchedConnection,), bound)

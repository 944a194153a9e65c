"""Sessions: a request's own, short ones for all other code, and one that refuses to write."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn, TypeVar

from anyio import CancelScope
from sqlalchemy import TextClause, event, tuple_
from sqlalchemy import inspect as inspect_model
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.sql import visitors
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from kit.places import service

Row = TypeVar("Row")


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

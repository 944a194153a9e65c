"""Engines and sessions.

`engine` (asyncpg) serves API requests, `sync_engine` (psycopg2) serves the admin and the tasks.
Both connect on first use, never at import. Neither pool overflows, so what a process can hold is
known beforehand; a caller waits `POSTGRES_POOL_TIMEOUT` seconds for a connection and then gets
`sqlalchemy.exc.TimeoutError`, which the API answers with 503.
"""

from typing import cast

from sqlalchemy import ClauseElement, create_engine, event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import ORMExecuteState, sessionmaker
from sqlalchemy.sql import visitors
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.application_name import name_connections
from app.core.config import settings
from app.core.connection_budget import postgres_pool_size
from app.core.shared_connections import share_connections

engine = create_async_engine(
    settings.DATABASE_URL,
    connect_args=settings.database_connect_args,
    pool_size=postgres_pool_size(settings),
    max_overflow=0,
    pool_timeout=settings.POSTGRES_POOL_TIMEOUT,
    # Elsewhere a logged error must not carry what people have entered.
    hide_parameters=not settings.is_local,
)

# Where API processes share what the sync engine may hold, a caller waits twice: for its turn within
# the process and for the process's turn.
_waits = 2 if settings.API_WORKERS > 1 else 1

sync_engine = create_engine(
    settings.SYNC_DATABASE_URL,
    connect_args=settings.sync_connect_args,
    pool_size=settings.POSTGRES_SYNC_POOL_SIZE,
    max_overflow=0,
    pool_timeout=settings.POSTGRES_POOL_TIMEOUT / _waits,
    # A request that meets a closed connection is answered with 503 and can be sent again; a task
    # would have failed for good. So one round trip more, on this engine alone.
    pool_pre_ping=True,
    hide_parameters=not settings.is_local,
)

name_connections(engine.sync_engine)
name_connections(sync_engine)
if settings.API_WORKERS > 1:
    share_connections(sync_engine, settings, timeout=settings.POSTGRES_POOL_TIMEOUT / _waits)


class ReadOnlyViolationError(RuntimeError):
    """A read-only session was asked to write; the endpoint wants `SessionDep` instead."""


class ReadOnlySession(Session):
    """A session that refuses flushes and anything but reads."""


@event.listens_for(ReadOnlySession, "before_flush")
def _refuse_flush(session: ReadOnlySession, *_: object) -> None:
    changed = [*session.new, *session.dirty, *session.deleted]
    raise ReadOnlyViolationError(f"a read-only session cannot write {changed!r}; use SessionDep")


@event.listens_for(ReadOnlySession, "do_orm_execute")
def _refuse_anything_but_reads(state: ORMExecuteState) -> None:
    statement = state.statement
    parts = visitors.iterate(cast("ClauseElement", statement))
    writes = any(getattr(part, "is_dml", False) for part in parts)
    if not state.is_select or writes or getattr(statement, "_for_update_arg", None) is not None:
        raise ReadOnlyViolationError(
            f"a read-only session only selects, and not for update: {statement}; use SessionDep"
        )


class AsyncReadOnlySession(AsyncSession):
    """The async face of `ReadOnlySession`."""

    sync_session_class = ReadOnlySession


async_session_maker = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

# A request that only reads needs no transaction: autocommit spares it the round trips of BEGIN and
# ROLLBACK, which are most of its time when the database is far away.
read_session_maker = async_sessionmaker(
    engine.execution_options(isolation_level="AUTOCOMMIT"),
    class_=AsyncReadOnlySession,
    expire_on_commit=False,
    autoflush=False,
)

sync_session_maker = sessionmaker(sync_engine, class_=Session, expire_on_commit=False)


def dispose_engines_after_fork() -> None:
    """Forget the parent's connections without closing them: a forked child shares their sockets."""
    engine.sync_engine.dispose(close=False)
    sync_engine.dispose(close=False)

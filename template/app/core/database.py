"""Engines and sessions.

`engine` (asyncpg) serves API requests, `sync_engine` (psycopg2) serves the admin and the tasks.
Both connect on first use, never at import. Neither pool overflows, so a process's connections have
a known limit; a caller waits `POSTGRES_POOL_TIMEOUT` seconds for a connection and then gets
`sqlalchemy.exc.TimeoutError`, which the API answers with 503.
"""

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from kit.connections import postgres_pool_size
from kit.database import AsyncReadOnlySession, name_connections

engine = create_async_engine(
    settings.DATABASE_URL,
    connect_args=settings.database_connect_args,
    pool_size=postgres_pool_size(settings),
    max_overflow=0,
    pool_timeout=settings.POSTGRES_POOL_TIMEOUT,
    # Outside local a logged error must not contain the values that people have entered.
    hide_parameters=not settings.is_local,
)

sync_engine = create_engine(
    settings.SYNC_DATABASE_URL,
    connect_args=settings.sync_connect_args,
    pool_size=settings.POSTGRES_SYNC_POOL_SIZE,
    max_overflow=0,
    pool_timeout=settings.POSTGRES_POOL_TIMEOUT,
    # A request on a stale connection is answered with 503 and can be sent again; a task would have
    # failed permanently. So one more round trip, on this engine only.
    pool_pre_ping=True,
    # A task's many changes in few round trips: by default each row that is updated is one.
    executemany_mode="values_plus_batch",
    hide_parameters=not settings.is_local,
)

name_connections(engine.sync_engine)
name_connections(sync_engine)

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

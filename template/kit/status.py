"""The state of the whole service at one moment: queues, connections, outboxes, migrations.

`read_status` is for whoever shows it: the start page, metrics, an endpoint of your own. A reading
uses a connection of either pool for some milliseconds, and serves all who ask within
`MAX_AGE_SECONDS`, so that a hundred viewers cost what one does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any

from sqlalchemy import MetaData, text

from kit.causes import first_line
from kit.connections import Census, count_postgres, count_redis
from kit.migrations import read_state, script_directory
from kit.outbox import Backlog, read_backlogs
from kit.places import service
from kit.queue import RedisStatus, read_redis_status
from kit.redis import redis_client, run_redis_call

MAX_AGE_SECONDS = 15
"""A reading is 13 commands where no task waits, so less than one operation of Redis a second."""

TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class RedisReading:
    """What Redis has of the service."""

    status: RedisStatus
    connections: Census


@dataclass(frozen=True)
class DatabaseReading:
    """What the database has of the service."""

    connections: Census
    backlogs: tuple[Backlog, ...]
    missing_migrations: tuple[str, ...]
    """Heads of the code that are not applied."""
    is_read_only: bool = False


@dataclass(frozen=True)
class ServiceStatus:
    """The state of the service; the part of a server that did not answer is None."""

    redis: RedisReading | None
    database: DatabaseReading | None
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why `redis` or `database` could not be read, or takes no writes."""


async def read_status(max_age: float = MAX_AGE_SECONDS) -> ServiceStatus:
    """Read the state of the service, at most `max_age` seconds old; raises nothing.

    A server that does not answer costs a few seconds, and is among the `problems`.
    """
    return await _reader.read(max_age)


class StatusReader:
    """Reads once for all who ask at the same time, or soon after."""

    def __init__(self) -> None:
        self._latest: tuple[float, ServiceStatus] | None = None
        self._running: asyncio.Task[ServiceStatus] | None = None

    async def read(self, max_age: float) -> ServiceStatus:
        """See `read_status`."""
        if self._latest and monotonic() - self._latest[0] < max_age:
            return self._latest[1]
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._read())
        return await asyncio.shield(self._running)  # others may wait for it, when a caller is gone

    async def _read(self) -> ServiceStatus:
        problems: dict[str, str] = {}
        redis, database = await asyncio.gather(
            _or_problem("redis", _read_redis, problems),
            _or_problem("database", _read_database, problems),
        )
        if database and database.is_read_only:
            problems["database"] = "it is read-only"
        status = ServiceStatus(redis, database, problems)
        self._latest = monotonic(), status
        return status


_reader = StatusReader()


async def _or_problem(
    server: str, read: Callable[[], Awaitable[Any]], problems: dict[str, str]
) -> Any:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await read()
    except Exception as error:  # noqa: BLE001 (whatever it is, the other server's part is shown)
        problems[server] = f"{type(error).__name__}: {first_line(error)}"


async def _read_redis() -> RedisReading:
    # A thread cannot be cancelled: it ends with the timeouts of the pool and of the socket.
    return await run_redis_call(
        lambda: RedisReading(read_redis_status(), count_redis(redis_client()))
    )


async def _read_database() -> DatabaseReading:
    async with service.engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
        state = await connection.run_sync(read_state, _script(), MetaData())
        return DatabaseReading(
            await count_postgres(connection),
            tuple(await connection.run_sync(read_backlogs)),
            tuple(state.missing),
            await connection.scalar(text("SHOW transaction_read_only")) == "on",
        )


_script = cache(script_directory)  # the code's revisions change only with the code

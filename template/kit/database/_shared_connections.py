"""Lets the API processes of one machine take turns with the sync engine's connections.

The admin and sync handlers need the database now and then. A connection for each process would
take them from the requests, and a small plan could not carry two processes at all. So there are
`POSTGRES_SYNC_POOL_SIZE` for all processes of a machine: a lock file stands for each, which the
kernel gives back whenever and however its process ends.
"""

import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import psycopg2.extensions
from sqlalchemy import Engine, event
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from kit.process import this_process
from kit.settings import BASE_DIR, Settings

POLL_SECONDS = 0.02


class SharedConnection(psycopg2.extensions.connection):
    """A connection that gives its turn back when it closes."""

    turn: IO[bytes] | None = None

    def close(self) -> None:
        """Close the connection, then let another process have one."""
        super().close()
        if self.turn is not None:
            self.turn.close()


def share_connections(engine: Engine, configuration: Settings, *, timeout: float) -> None:
    """Have API processes connect in turn, and close each connection when it is given back.

    Other processes, as workers with the same settings, are left alone.

    Args:
        engine: a psycopg2 engine.
        configuration: whose `POSTGRES_SYNC_POOL_SIZE` counts.
        timeout: seconds to wait for a turn before `sqlalchemy.exc.TimeoutError`.
    """

    @event.listens_for(engine, "do_connect")
    def _connect_in_turn(
        dialect: Any,  # noqa: ANN401 (SQLAlchemy's)
        _record: object,
        arguments: list[Any],
        parameters: dict[str, Any],
    ) -> SharedConnection | None:
        if this_process.role != "api":
            return None
        turn = take_turn(configuration.POSTGRES_SYNC_POOL_SIZE, timeout=timeout)
        try:
            connection: SharedConnection = dialect.connect(
                *arguments, **parameters, connection_factory=SharedConnection
            )
        except BaseException:
            turn.close()
            raise
        connection.turn = turn
        return connection

    @event.listens_for(engine, "checkin")
    def _leave_to_others(_connection: object, record: ConnectionPoolEntry) -> None:
        # Kept open in this process's pool, it would keep all others waiting.
        if this_process.role == "api":
            record.close()


def take_turn(count: int, *, timeout: float) -> IO[bytes]:
    """One of `count` turns, which closing the file gives back.

    Args:
        count: how many processes of this machine may have one at a time.
        timeout: seconds to wait.

    Raises:
        sqlalchemy.exc.TimeoutError: when none came free in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        for number in range(count):
            lock = _lock_file(number).open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
            else:
                return lock
        if time.monotonic() > deadline:
            raise PoolTimeoutError(
                f"all {count} connections that this machine's API processes share for the admin "
                f"and sync handlers were in use for {timeout:g} s (POSTGRES_SYNC_POOL_SIZE)"
            )
        time.sleep(POLL_SECONDS)


def _lock_file(number: int) -> Path:
    """A file of this service's and this user's alone, also where everybody may write."""
    service = hashlib.sha256(os.fsencode(BASE_DIR)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"connections-{os.getuid()}-{service}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; remove it")
    return folder / f"{number}.lock"

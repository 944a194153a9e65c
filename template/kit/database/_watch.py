"""Ends psycopg2's connections on which a statement waits for an answer that will not come.

psycopg2 has no timeout, and a task's statement may well take minutes. So a thread asks the database
on a new connection whether it still runs a statement that has waited for some seconds. Where it
does not, twice in a row, and nothing was sent or received between, the answer is lost: the socket
is shut down, and the waiting code gets an `OperationalError`. Where the database cannot be asked,
nothing is ended.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2 import extensions

CHECK_SECONDS = 4.0
"""A lost answer is noticed after two or three times as long."""
ASK_SECONDS = 3.0
"""Timeout of the question, whose own connection may be lost too."""

# The server keeps at least the first 100 bytes of a statement.
_RUNS = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE state = 'active' AND pid <> pg_backend_pid() AND left(query, 90) = left(%s, 90)
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
                began, cursor = wait
                if time.monotonic() - began < CHECK_SECONDS or not _is_lost(connection, cursor):
                    continue
                with self._lock:
                    if self._waits.get(connection) is not wait:
                        continue
                    with socket.socket(fileno=os.dup(connection.fileno())) as link:
                        suspects[wait] = _traffic(link)
                        if before.get(wait) == suspects[wait]:
                            link.shutdown(socket.SHUT_RDWR)


def _is_lost(connection: "_WatchedConnection", cursor: extensions.cursor | None) -> bool:
    """Whether the database does not run the statement, though its answer has not come."""
    statement = b"COMMIT" if cursor is None else cursor.query or b""
    deadline = time.monotonic() + ASK_SECONDS
    try:
        with closing(psycopg2.connect(**connection.parameters, async_=True)) as other:
            _finish(other, deadline)
            answer = other.cursor()
            answer.execute(_RUNS, [statement.decode(errors="replace")])
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

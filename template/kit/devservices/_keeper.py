"""The keeper: the process that owns the servers, and runs them while there is a lease on them.

A lease is a connection to the keeper's socket. The kernel closes it when its holder ends, even by
SIGKILL, so no lease is ever left over. The keeper starts the servers that a lease asks for,
answers that they are ready, and stops them when the last lease ends. Should a server end by
itself, the keeper reports it on every lease, stops the rest and exits: the next lease starts anew.

Should the keeper be killed, Linux signals the servers. They share its lock (`keeper.lock`), so the
next keeper waits until they have ended. Where the kernel has no such signal, it ends them itself.

Run as `python -m kit.devservices._keeper DATA LEASE_DESCRIPTOR [--temporary]`.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kit.devservices import LOG_NAME, SOCKET_NAME
from kit.devservices._data import DevServicesError, addresses_in, locked
from kit.devservices._servers import (
    STOP_SECONDS,
    Server,
    describe_status,
    start_postgres,
    start_valkey,
)

LOCK_NAME = "keeper.lock"


def main(data: Path, first_lease: socket.socket, *, temporary: bool) -> None:
    """Keep the servers of the directory `data` running until the last lease ends.

    The leases that are left are closed when this process ends: so their holders see that all
    servers have ended.
    """
    os.umask(0o077)  # logs and data are private
    with _sole_keeper(data) as lock:
        for log in data.glob("*.log"):
            if log.name != LOG_NAME:
                log.unlink()
        asyncio.run(Keeper(data, lock, temporary=temporary).run(first_lease))
        if temporary:
            shutil.rmtree(data, ignore_errors=True)
        else:
            (data / SOCKET_NAME).unlink(missing_ok=True)


class Keeper:
    """The running servers, and the leases on them."""

    def __init__(self, data: Path, lock: int, *, temporary: bool) -> None:
        self._data = data
        self._lock = lock
        self._temporary = temporary
        self._running: dict[str, Server] = {}
        self._leases: set[asyncio.StreamWriter] = set()
        self._stopping = asyncio.Event()

    async def run(self, first_lease: socket.socket) -> None:
        """Serve leases until the last one or a server has ended, or SIGTERM; stop the servers."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGCHLD, self._report_ended_server)
        socket_server = await asyncio.start_unix_server(self._serve, sock=_listen(self._data))
        first = asyncio.create_task(self._serve(*await asyncio.open_connection(sock=first_lease)))
        await self._stopping.wait()
        first.cancel()
        socket_server.close()
        for server in self._running.values():
            server.process.send_signal(server.stop_signal)
        for server in self._running.values():
            server.wait_until_gone()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a lease's requests until its holder ends."""
        self._leases.add(writer)
        with suppress(ConnectionError):
            while not self._stopping.is_set() and (request := await reader.readline()):
                _send(writer, self._start_missing(json.loads(request)))
        # The last lease is closed after the servers have ended: its holder may wait for that.
        if len(self._leases) == 1:
            self._stopping.set()
        else:
            self._leases.remove(writer)
            writer.close()

    def _start_missing(self, names: list[str]) -> dict[str, object]:
        """Start those of the servers that do not run yet; returns the answer to the lease."""
        try:
            for name in names:
                if name not in self._running:
                    self._running[name] = self._start(name)
                    pids = [str(server.process.pid) for server in self._running.values()]
                    (self._data / LOCK_NAME).write_text(" ".join(pids), encoding="ascii")
        except DevServicesError as error:
            return {"error": str(error)}
        except Exception:  # noqa: BLE001 (the lease waits for an answer)
            return {"error": f"the keeper of the servers failed:\n{traceback.format_exc()}"}
        return {"ready": names}

    def _start(self, name: str) -> Server:
        reserved = addresses_in(self._data)
        if name == "postgres":
            return start_postgres(
                self._data, reserved.postgres, lock=self._lock, temporary=self._temporary
            )
        return start_valkey(self._data, reserved.redis, lock=self._lock, temporary=self._temporary)

    def _report_ended_server(self) -> None:
        for server in self._running.values():
            status = server.process.poll()
            if status is not None and not self._stopping.is_set():
                self._stopping.set()
                for lease in self._leases:
                    _send(lease, {"error": f"{server.title} {describe_status(status)}"})


@contextmanager
def _sole_keeper(data: Path) -> Iterator[int]:
    """Hold the lock that the keeper and its servers share; yields its descriptor.

    Raises:
        TimeoutError: when servers of an earlier keeper do not end.
    """
    path = data / LOCK_NAME
    with ExitStack() as stack:
        try:
            # Linux has signalled the servers of a killed keeper; other systems have not.
            patience = STOP_SECONDS if sys.platform == "linux" else 1
            lock = stack.enter_context(locked(path, seconds=patience))
        except TimeoutError:
            # The lock is held by the servers whose process ids are in the file.
            for pid in path.read_text(encoding="ascii").split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)
            lock = stack.enter_context(locked(path, seconds=STOP_SECONDS))
        path.write_text("", encoding="ascii")
        yield lock


def _listen(data: Path) -> socket.socket:
    path = data / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    # From inside the directory, as a socket's whole path must not exceed about 100 bytes.
    os.chdir(data)
    listener.bind(SOCKET_NAME)
    os.chdir("/")
    return listener


def _send(lease: asyncio.StreamWriter, message: dict[str, object]) -> None:
    lease.write(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    if os.fork() != 0:
        os._exit(0)  # The keeper outlives the process that started it, while others hold leases.
    main(
        Path(sys.argv[1]),
        socket.socket(fileno=int(sys.argv[2])),
        temporary="--temporary" in sys.argv[3:],
    )

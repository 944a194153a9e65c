"""The keeper: the process that owns the servers, and runs them while there is a lease on them.

A lease is a connection to the keeper's socket. The kernel closes it when its holder ends, even by
SIGKILL, so no lease is ever left over. The keeper starts the servers that a lease asks for,
answers that they are ready, and stops them when the last lease ends. Should a server end by
itself, the keeper reports it on every lease, stops the rest and exits: the next lease starts anew.

Should the keeper be killed, Linux signals the servers. They share its lock (`keeper.lock`), so the
next keeper waits until they have ended. Where the kernel has no such signal, it ends them itself.

Run as `python -m kit.devservices._keeper DATA LEASE_DESCRIPTOR [--temporary]`.
"""

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kit.devservices import _postgres as postgres
from kit.devservices import _valkey as valkey
from kit.devservices._data import DevServicesError, PortTakenError, locked
from kit.devservices._lease import LOG_NAME, SOCKET_NAME
from kit.devservices._processes import STOP_SECONDS, describe_status, wait_until_gone
from kit.devservices._reservation import addresses_in

LOCK_NAME = "keeper.lock"


@dataclass(frozen=True)
class Server:
    """One kind of server that a lease can ask for."""

    title: str
    start: Callable[[], subprocess.Popen[bytes]]
    stop_signal: signal.Signals


def main(data: Path, first_lease: socket.socket, *, temporary: bool) -> None:
    """Keep the servers of the directory `data` running until the last lease ends."""
    os.umask(0o077)  # logs and data are private
    with _sole_keeper(data) as lock:
        for log in data.glob("*.log"):
            if log.name != LOG_NAME:
                log.unlink()
        reserved = addresses_in(data)
        keeper = Keeper(
            {
                "postgres": Server(
                    "PostgreSQL",
                    lambda: postgres.start_postgres(
                        data, reserved.postgres, lock=lock, temporary=temporary
                    ),
                    postgres.STOP_SIGNAL,
                ),
                "redis": Server(
                    "Valkey",
                    lambda: valkey.start_valkey(
                        data, reserved.redis, lock=lock, temporary=temporary
                    ),
                    valkey.STOP_SIGNAL,
                ),
            },
            # A temporary server is used only by the process that starts it.
            listener=None if temporary else _listen(data),
            pids_file=data / LOCK_NAME,
        )
        try:
            keeper.run(first_lease)
        finally:
            keeper.stop_servers()
            if temporary:
                shutil.rmtree(data, ignore_errors=True)
            else:
                (data / SOCKET_NAME).unlink(missing_ok=True)
    # Only now: the end of the connection shows the holders of leases that all servers have ended.
    keeper.close()


class Keeper:
    """The running servers, and the leases on them."""

    def __init__(
        self, servers: dict[str, Server], *, listener: socket.socket | None, pids_file: Path
    ) -> None:
        self._servers = servers
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._leases: list[socket.socket] = []
        self._listener = listener
        self._pids_file = pids_file
        self._is_stopping = False

    def run(self, first_lease: socket.socket) -> None:
        """Serve leases; returns when the last lease or a server has ended, or at SIGTERM."""
        with selectors.DefaultSelector() as selector, _signals_as_bytes(self._stop) as signals:
            selector.register(signals, selectors.EVENT_READ, lambda: signals.recv(64))
            if self._listener:
                selector.register(
                    self._listener, selectors.EVENT_READ, lambda: self._accept(selector)
                )
            self._add(first_lease, selector)
            while self._leases and not self._is_stopping:
                for key, _ in selector.select():
                    key.data()
                if self._report_ended_server():
                    return

    def stop_servers(self) -> None:
        """Stop all servers and wait until they have ended."""
        if self._listener:
            self._listener.close()
        for name, process in self._running.items():
            process.send_signal(self._servers[name].stop_signal)
        for process in self._running.values():
            wait_until_gone(process)

    def close(self) -> None:
        """Close the remaining leases."""
        for lease in self._leases:
            lease.close()

    def _stop(self) -> None:
        self._is_stopping = True

    def _accept(self, selector: selectors.BaseSelector) -> None:
        assert self._listener is not None  # noqa: S101 (it is what the selector reported)
        connection, _ = self._listener.accept()
        self._add(connection, selector)

    def _add(self, lease: socket.socket, selector: selectors.BaseSelector) -> None:
        self._leases.append(lease)
        selector.register(lease, selectors.EVENT_READ, lambda: self._read(lease, selector))

    def _read(self, lease: socket.socket, selector: selectors.BaseSelector) -> None:
        """Handle a lease's request, or the end of its holder."""
        try:
            request = lease.recv(4096)
        except ConnectionError:
            request = b""
        if request:
            _send(lease, self._start_missing(json.loads(request)))
            return
        selector.unregister(lease)
        # The last lease is closed after the servers have ended: its holder may wait for that.
        if len(self._leases) > 1:
            self._leases.remove(lease)
            lease.close()
        else:
            self._is_stopping = True

    def _start_missing(self, names: list[str]) -> dict[str, object]:
        """Start those of the servers that do not run yet; returns the answer to the lease."""
        try:
            for name in names:
                if name not in self._running:
                    self._running[name] = self._servers[name].start()
                    self._record_pids()
        except DevServicesError as error:
            return {"error": str(error), "port_taken": isinstance(error, PortTakenError)}
        return {"ready": names}

    def _record_pids(self) -> None:
        pids = [str(process.pid) for process in self._running.values()]
        self._pids_file.write_text(" ".join(pids), encoding="ascii")

    def _report_ended_server(self) -> bool:
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                message = f"{self._servers[name].title} {describe_status(status)}"
                for lease in self._leases:
                    _send(lease, {"error": message})
                return True
        return False


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
    listener.listen()
    return listener


@contextmanager
def _signals_as_bytes(on_terminate: Callable[[], None]) -> Iterator[socket.socket]:
    """Turn signals into bytes: a socket gets one for each ended child and for SIGTERM."""
    receiver, sender = socket.socketpair()
    sender.settimeout(0)
    with receiver, sender:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: on_terminate())
        signal.set_wakeup_fd(sender.fileno())
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(-1)


def _send(lease: socket.socket, message: dict[str, object]) -> None:
    with suppress(ConnectionError):  # Its holder may have ended; that is noticed when it is read.
        lease.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    if os.fork() != 0:
        os._exit(0)  # The keeper outlives the process that started it, while others hold leases.
    main(
        Path(sys.argv[1]),
        socket.socket(fileno=int(sys.argv[2])),
        temporary="--temporary" in sys.argv[3:],
    )

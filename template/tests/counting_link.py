"""A link to a server that counts how often its clients wait for an answer."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from sqlalchemy.engine import make_url


class CountingLink:
    """A port on 127.0.0.1 that leads to a database's server.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        address = make_url(url)
        self._server = (address.host or "127.0.0.1", address.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = address.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.round_trips = 0
        """How many times a client has sent something after it had been answered."""
        self.connections = 0
        """How many were made."""

    def __enter__(self) -> "CountingLink":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits on a socket wakes when it is shut down, not when it is closed.
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        for client in _connections(self._listener):
            self.connections += 1
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            for data in (client, server):
                data.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waits = threading.Event()
            for pump in (self._ask, self._answer):
                threading.Thread(target=pump, args=(client, server, waits), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, waits: threading.Event) -> None:
        for data in _received(client):
            if not waits.is_set():
                waits.set()
                with self._lock:
                    self.round_trips += 1
            server.sendall(data)
        _end(server)

    def _answer(self, client: socket.socket, server: socket.socket, waits: threading.Event) -> None:
        for data in _received(server):
            waits.clear()
            client.sendall(data)
        _end(client)


def _connections(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):  # closed
        while True:
            yield listener.accept()[0]


def _received(source: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            yield data


def _end(sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

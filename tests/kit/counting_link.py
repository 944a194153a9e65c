"""A link to a database that counts how often its clients wait for an answer."""

import contextlib
import socket
import threading

from sqlalchemy.engine import make_url

from kit.tests.link import Link, received


class CountingLink(Link):
    """Leads to a database's server.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        address = make_url(url)
        super().__init__(address.host or "127.0.0.1", address.port or 5432)
        self.url = address.set(host="127.0.0.1", port=self.port)
        self._lock = threading.Lock()
        self.round_trips = 0
        """How many times a client has sent something after it had been answered."""
        self.connections = 0
        """How many were made."""

    def join(self, near: socket.socket) -> None:
        """Count it, and then what is asked over it."""
        self.connections += 1
        far = self.connect()
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waits = threading.Event()
        for pump in (self._ask, self._answer):
            threading.Thread(target=pump, args=(near, far, waits), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, waits: threading.Event) -> None:
        with contextlib.suppress(OSError):
            for data in received(client):
                if not waits.is_set():
                    waits.set()
                    with self._lock:
                        self.round_trips += 1
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket, waits: threading.Event) -> None:
        with contextlib.suppress(OSError):
            for data in received(server):
                waits.clear()
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

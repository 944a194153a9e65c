"""What stands between clients and a server, for tests that watch or disturb what they exchange."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self


class Link:
    """A port on 127.0.0.1 that leads to a server's; subclasses pass on what is sent.

    Args:
        host: of the server.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The link's near end."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits on a socket wakes when it is shut down, not when it is closed.
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def join(self, near: socket.socket) -> None:
        """Lead a client's new connection to the server, without waiting for its end."""
        raise NotImplementedError

    def connect(self) -> socket.socket:
        """A connection to the server, which ends with the link."""
        far = socket.create_connection(self._server)
        self._sockets.append(far)
        return far

    def _accept(self) -> None:
        for near in self._accepted():
            self._sockets.append(near)
            self.join(near)

    def _accepted(self) -> Iterator[socket.socket]:
        with contextlib.suppress(OSError):  # closed
            while True:
                yield self._listener.accept()[0]


def received(source: socket.socket) -> Iterator[bytes]:
    """What arrives, until the other side ends or the link does."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            yield data

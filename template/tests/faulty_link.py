"""A link to a server that can go silent, as when a firewall forgets it or a router dies."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class FaultyLink:
    """A port on 127.0.0.1 that leads to a server's, until `cut` lets nothing through any more.

    Neither side is told: what is sent vanishes, and no connection is closed. Connections that were
    open when the link was cut stay silent for ever; `mend` lets new ones through.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passes = threading.Event()
        self._sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The link's near end."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """What stands for the server's own URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> "FaultyLink":
        self.mend()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits on a socket wakes when it is shut down, not when it is closed.
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        """Let nothing through any more, and no new connection either."""
        self._passes.clear()

    def mend(self) -> None:
        """Let through what connects from now on."""
        self._passes = threading.Event()
        self._passes.set()

    def _accept(self) -> None:
        for near in _connections(self._listener):
            self._sockets.append(near)
            passes = self._passes
            if not passes.is_set():
                continue  # never answered, never closed
            far = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets.append(far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink, passes), daemon=True).start()


def _connections(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):  # closed
        while True:
            yield listener.accept()[0]


def _pump(source: socket.socket, sink: socket.socket, passes: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if passes.is_set():
                sink.sendall(data)
        if passes.is_set():
            sink.shutdown(socket.SHUT_RDWR)

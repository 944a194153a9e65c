"""A link to a server that can go silent, as when a firewall forgets it or a router dies."""

import contextlib
import socket
import threading

from kit.tests.link import Link, received


class FaultyLink(Link):
    """Leads to a Redis or PostgreSQL until `cut` lets nothing through any more.

    Neither side is told: what is sent vanishes, and no connection is closed. Connections that were
    open when the link was cut stay silent for ever; `mend` lets new ones through.
    """

    def __init__(self, server_port: int) -> None:
        super().__init__("127.0.0.1", server_port)
        self.mend()

    @property
    def url(self) -> str:
        """What stands for the URL of a Redis."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Let nothing through any more, and no new connection either."""
        self._passes.clear()

    def mend(self) -> None:
        """Let through what connects from now on."""
        self._passes = threading.Event()
        self._passes.set()

    def lose(self) -> None:
        """Lose the connections that are open; new ones work."""
        self.cut()
        self.mend()

    def join(self, near: socket.socket) -> None:
        """Nothing is answered, nor closed, while the link is cut."""
        passes = self._passes
        if not passes.is_set():
            return
        far = self.connect()
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, sink, passes), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, passes: threading.Event) -> None:
    with contextlib.suppress(OSError):
        for data in received(source):
            if passes.is_set():
                sink.sendall(data)
        if passes.is_set():
            sink.shutdown(socket.SHUT_RDWR)

"""A link to a database that counts round trips, and can be as long as one wants."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Link:
    """A port on 127.0.0.1 that leads to a database.

    Args:
        url: of the database.
        latency: seconds that a message and its answer take together beside the server's own time.
    """

    def __init__(self, url: str, latency: float = 0) -> None:
        self._parts = urlsplit(url)
        self._delay = latency / 2
        self._port = 0
        self.round_trips = 0
        """How many times a client has sent something after it had been answered."""

    @property
    def url(self) -> str:
        """The database's, over this link."""
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{self._port}"))

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Listen until told to stop."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    async def _connect(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        reader, writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        waits = asyncio.Event()
        await asyncio.gather(
            self._pass_on(client_reader, writer, waits, asks=True),
            self._pass_on(reader, client_writer, waits, asks=False),
        )

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waits: asyncio.Event,
        *,
        asks: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await reader.read(65536):
                if asks and not waits.is_set():
                    self.round_trips += 1
                    waits.set()
                elif not asks:
                    waits.clear()
                loop.call_later(self._delay, writer.write, data)
        loop.call_later(self._delay, writer.close)


@contextmanager
def running_link(url: str, latency: float = 0) -> Iterator[Link]:
    """A link, served by a thread."""
    link = Link(url, latency)
    ready = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(link.serve(ready, stop),), daemon=True
    )
    thread.start()
    if not ready.wait(timeout=10):
        raise RuntimeError("the link does not listen")
    try:
        yield link
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)

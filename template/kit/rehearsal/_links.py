"""Links to the servers: as far away as a plan's, with its connections and operations a second."""

import asyncio
from collections import deque
from time import monotonic
from typing import Any, Self

BURST_SECONDS = 1
"""Operations of so many seconds may come at once; each one beyond them waits for its turn."""

WAITING = (b"BLMOVE", b"BRPOP", b"BLPOP", b"BLMPOP")
"""Commands with which a worker waits for a task."""


class Link:
    """A port on 127.0.0.1 that leads to a server's, in the event loop that enters it.

    Args:
        server: port of the server, on 127.0.0.1.
        latency: seconds that a request and its answer are under way together.
        connections: as many as it lets through at once; others it refuses as the server would.
    """

    refusal = b""

    def __init__(self, server: int, *, latency: float, connections: int) -> None:
        self.server, self.delay, self.connections = server, latency / 2, connections
        self.open: set[End] = set()
        self.most = self.refused = 0
        """Most connections that were open at once, and those that were refused."""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: End(self), "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for end in self.open.copy():
            end.transport.abort()

    def asked(self, near: "End", data: bytes) -> None:
        """Pass on what a client has sent."""
        near.pass_on(data)

    def answered(self, far: "End", data: bytes) -> None:
        """Pass on what the server has sent."""
        far.pass_on(data)

    def arrived(self, end: "End", data: bytes) -> None:
        """Deliver what has come to the end of its way; no bytes are the end of the connection."""
        end.deliver(data)

    def closed(self, near: "End") -> None:
        """Note the end of a client's connection."""
        self.open.discard(near)


class End(asyncio.Protocol):
    """One end of a connection: passes on to the other, in order, what arrives here."""

    transport: Any

    def __init__(self, link: Link, near: "End | None" = None) -> None:
        self.link, self.near, self.other = link, near, near
        self.rest = b""
        """The beginning of a message that has not arrived as a whole."""
        self.waits_since: float | None = None
        self.is_ready = False
        self.in_line: list[bytes] = []
        self._due = 0.0
        self._under_way: deque[bytes] = deque()
        self._early: list[bytes] = []
        """What has arrived before there is an other end."""

    def connection_made(self, transport: Any) -> None:
        """Connect to the server too, where the plan has a connection left."""
        self.transport = transport
        if self.near:
            self.near.meet(self)
            return
        if len(self.link.open) >= self.link.connections:
            self.link.refused += 1
            transport.write(self.link.refusal)
            transport.close()
            return
        self.link.open.add(self)
        self.link.most = max(self.link.most, len(self.link.open))
        self._joining = asyncio.ensure_future(self._join())

    async def _join(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: End(self.link, self), "127.0.0.1", self.link.server
            )
        except OSError:
            self.transport.close()

    def meet(self, other: "End") -> None:
        """Deliver to the other end what has arrived before it."""
        self.other = other
        for data in self._early:
            self.deliver(data)

    def data_received(self, data: bytes) -> None:
        """Hand it to the link."""
        (self.link.answered if self.near else self.link.asked)(self, data)

    def connection_lost(self, _: Exception | None) -> None:
        """Close the other end too, after what is under way to it."""
        if not self.near:
            self.link.closed(self)
        self.pass_on(b"")

    def pass_on(self, data: bytes, wait: float = 0) -> None:
        """Send it to the other end, after the way there and so many seconds more."""
        # A timer passes on what is first in line, not its own: timers of equal times change places.
        self._under_way.append(data)
        self._due = max(self._due, monotonic() + self.link.delay + wait)
        asyncio.get_running_loop().call_later(self._due - monotonic(), self._pass_first)

    def _pass_first(self) -> None:
        self.link.arrived(self, self._under_way.popleft())

    def deliver(self, data: bytes) -> None:
        """Write it to the other end."""
        if self.other is None:
            self._early.append(data)
        elif not self.other.transport.is_closing():
            if data:
                self.other.transport.write(data)
            else:
                self.other.transport.close()


class RedisLink(Link):
    """A link that counts operations, and delays those beyond so many a second.

    It also sees how long workers wait for a task, from which follows how busy they are.
    """

    refusal = b"-ERR max number of clients reached\r\n"
    operations = 0
    most_a_second: float | None = None
    """Operations that it passes on in a second; any number while this is None."""
    _spent_until = _waited = 0.0

    def asked(self, near: End, data: bytes) -> None:
        """Count the commands, and pass them on when it is their turn."""
        names = _commands(near, data)
        wait = self._spend(len(names))
        if names and names[-1] in WAITING:
            near.waits_since = monotonic() + self.delay + wait
        near.pass_on(data, wait)

    def answered(self, far: End, data: bytes) -> None:
        """Note that a worker's wait is over."""
        self._end_wait(far.near)
        far.pass_on(data)

    def closed(self, near: End) -> None:
        """Likewise."""
        self._end_wait(near)
        super().closed(near)

    def _end_wait(self, near: End | None) -> None:
        if near and near.waits_since is not None:
            self._waited += max(0, monotonic() - near.waits_since)
            near.waits_since = None

    def waiting(self) -> tuple[int, float]:
        """How many workers wait for a task, and how many seconds all of them have waited so far."""
        now = monotonic()
        waits = [now - end.waits_since for end in self.open if end.waits_since is not None]
        under_way = [each for each in waits if each > 0]
        return len(under_way), self._waited + sum(under_way)

    def use_up(self) -> None:
        """Leave nothing of what may come at once."""
        self._spent_until = max(self._spent_until, monotonic())

    def _spend(self, operations: int) -> float:
        self.operations += operations
        if not self.most_a_second:
            return 0
        now = monotonic()
        start = max(self._spent_until, now - BURST_SECONDS)
        self._spent_until = start + operations / self.most_a_second
        return max(0, self._spent_until - now)


def _commands(end: End, data: bytes) -> list[bytes]:
    """Names of the commands that have arrived, each a list of texts (RESP)."""
    rest, position, names = end.rest + data, 0, []
    while (line := rest.find(b"\r\n", position)) >= 0:
        number, following = int(rest[position + 1 : line]), line + 2
        if rest[position] == b"*"[0]:
            end.is_ready = True  # the next text is a name
        elif len(rest) < following + number + 2:
            break
        else:
            if end.is_ready:
                names.append(rest[following : following + number].upper())
            end.is_ready = False
            following += number + 2
        position = following
    end.rest = rest[position:]
    return names


class PostgresLink(Link):
    """A link that, with a number of server connections, is a pooler in transaction mode too.

    A client then has one of them from the begin of its transaction to the end, and waits for one.
    """

    refusal = b"SFATAL\0VFATAL\0C53300\0Mmax clients reached, the plan has no connection left\0\0"
    refusal = b"E" + (len(refusal) + 4).to_bytes(4, "big") + refusal

    def __init__(self, server: int, *, servers: int | None = None, **options: Any) -> None:
        super().__init__(server, **options)
        self.servers = servers
        self._held: dict[End, float] = {}
        self._seconds = 0.0
        self._line: deque[End] = deque()

    @property
    def held(self) -> float:
        """Seconds that server connections were held so far, all together."""
        now = monotonic()
        return self._seconds + sum(now - since for since in self._held.values())

    def arrived(self, end: End, data: bytes) -> None:
        """Deliver it, in transaction mode as soon as there is a server connection for it."""
        if self.servers is None or not (data and end.is_ready) or end in self._held:
            end.deliver(data)
            return
        if not end.in_line:
            self._line.append(end)
        end.in_line.append(data)
        self._serve()

    def _serve(self) -> None:
        while self._line and len(self._held) < (self.servers or 0):
            near = self._line.popleft()
            if near in self.open:
                self._held[near] = monotonic()
                near.deliver(b"".join(near.in_line))
            near.in_line.clear()

    def answered(self, far: End, data: bytes) -> None:
        """Pass it on; the transaction has ended where the server says that it is idle."""
        far.pass_on(data)
        if self.servers is None or far.near is None:
            return
        rest, position = far.rest + data, 0
        while len(rest) >= position + 5:
            size = 1 + int.from_bytes(rest[position + 1 : position + 5], "big")
            if len(rest) < position + size:
                break
            if rest[position : position + 1] == b"Z" and rest[position + 5 : position + 6] == b"I":
                far.near.is_ready = True
                self._release(far.near)
            position += size
        far.rest = rest[position:]

    def closed(self, near: End) -> None:
        """Release what it held."""
        super().closed(near)
        self._release(near)

    def _release(self, near: End) -> None:
        if (since := self._held.pop(near, None)) is not None:
            self._seconds += monotonic() - since
        self._serve()

"""Requests at a rate, over connections that are kept open."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any

import httptools

REQUEST_SECONDS = 30
_numbers = count(1)


@dataclass(frozen=True)
class Route:
    """What is asked, and how often beside the others."""

    method: str
    path: str
    body: str = ""
    weight: int = 1

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def message(self, token: str) -> bytes:
        """The next request as it is sent; `{n}` becomes a number that no other request has."""
        path, body = (each.replace("{n}", str(next(_numbers))) for each in (self.path, self.body))
        content = body.encode()
        lines = (
            f"{self.method} {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Accept: */*",
            f"Authorization: Bearer {token}",
            *(("Content-Type: application/json",) if body else ()),
            f"Content-Length: {len(content)}",
        )
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class Outcome:
    """What came of a load."""

    good: int = 0
    seconds: float = 0
    """Until the last answer."""
    latency: float = 0
    """Seconds that a good answer took, all together."""
    failures: Counter[str] = field(default_factory=Counter)


def is_success(status: int | str) -> bool:
    """Whether a status is one of success; an error's name is none."""
    return str(status).startswith("2")


class _Connection(asyncio.Protocol):
    """Sends one request after another; httptools calls the methods `on_…`."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self.body = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, message: bytes) -> "asyncio.Future[int]":
        self._parser = httptools.HttpResponseParser(self)
        self.body = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the API closed it"))


class Caller:
    """Calls the API with a token.

    Args:
        port: of the API, on 127.0.0.1.
        token: what `Authorization` carries.
    """

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._free: list[_Connection] = []

    async def call(self, route: Route) -> tuple[int | str, bytes]:
        """Make one request; its status, or the name of the error, and the answer's body."""
        loop = asyncio.get_running_loop()
        connection = None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                while self._free and (connection is None or connection.transport.is_closing()):
                    connection = self._free.pop()
                if connection is None or connection.transport.is_closing():
                    _, connection = await loop.create_connection(
                        _Connection, "127.0.0.1", self._port
                    )
                status = await connection.send(route.message(self._token))
        except (OSError, httptools.HttpParserError) as error:
            if connection:
                connection.transport.abort()
            return type(error).__name__, b""
        self._free.append(connection)
        return status, connection.body

    async def json(self, route: Route) -> Any:
        """Return the answer's JSON, or None where it has none or is no success."""
        status, body = await self.call(route)
        try:
            return json.loads(body) if is_success(status) else None
        except ValueError:
            return None

    async def put_load(
        self,
        routes: Sequence[Route],
        rate: float,
        seconds: float,
        *,
        most: int,
        requests: float = math.inf,
    ) -> Outcome:
        """Make requests of all routes in turn, at a rate, and wait for the answers.

        Args:
            routes: each as often as its weight says.
            rate: requests a second.
            seconds: for as long.
            most: requests under way at once; more wait for an answer to one of them.
            requests: after which it ends earlier.
        """
        turns = [route for route in routes for _ in range(route.weight)]
        outcome, under_way, sent = Outcome(), set[asyncio.Task[None]](), 0
        began = monotonic()
        while (now := monotonic()) < began + seconds and sent < requests:
            while sent < min((now - began) * rate, requests) and len(under_way) < most:
                task = asyncio.create_task(self._one(turns[sent % len(turns)], outcome))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                sent += 1
            await asyncio.sleep(0.002)
        if under_way:
            await asyncio.wait(under_way)
        outcome.seconds = monotonic() - began
        return outcome

    async def _one(self, route: Route, outcome: Outcome) -> None:
        began = monotonic()
        status, _ = await self.call(route)
        if is_success(status):
            outcome.good += 1
            outcome.latency += monotonic() - began
        else:
            outcome.failures[f"{route}: {status}"] += 1

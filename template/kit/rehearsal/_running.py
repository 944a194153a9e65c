"""A running copy of the service with servers of its own, what it uses, and calls of it."""

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import httptools
import psutil  # type: ignore[import-untyped]
import redis

from kit.devservices import signal_at_end_of_parent, temporary_servers
from kit.rehearsal._links import PostgresLink, RedisLink
from kit.settings import BASE_DIR, Settings, StartupError

START_SECONDS = 60
SETTLE_SECONDS = 60
"""How long a run waits for the tasks that it has sent."""

_SERVE = (
    "from kit.commands import serve; serve.APPLICATION = 'kit.rehearsal._probe:app'; serve.main([])"
)
_CELERY = ("-m", "celery", "--quiet", "--app", "app.core.celery:celery_app")
API = ("-c", _SERVE)
WORKER = (*_CELERY, "worker", "--pool", "solo", "--concurrency", "1", "--task-events")
BEAT = (*_CELERY, "beat")
REQUEST_SECONDS = 30
_numbers = count(1)


@dataclass(frozen=True)
class Plan:
    """What the servers' plans have, and how far away they are.

    The defaults are those of Redis Cloud's free plan and of Supabase's pooler on its smallest one.
    """

    latency: float = 0.020
    """Seconds that a request to a server and its answer are under way together."""
    redis_operations: float = 100
    """A second."""
    redis_megabytes: float = 30
    pooler_connections: int = 15
    """Of the pooler to the database; in transaction mode all clients share them."""


def api_processes(settings: Settings) -> int:
    """Processes that serve the API."""
    return settings.API_INSTANCES * settings.API_WORKERS


def task_processes(settings: Settings) -> int:
    """Processes that run tasks; a prefork worker's children count as workers."""
    return settings.CELERY_WORKERS * max(1, settings.CELERY_WORKER_CHILDREN)


def pooler_mode(settings: Settings) -> str:
    """The pooler's mode where the service is deployed, also while it uses an embedded server."""
    return settings.POSTGRES_POOLER or settings.recognised_pooler or "none"


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


class Running:
    """The running copy."""

    def __init__(
        self, folder: Path, postgres: PostgresLink, redis_link: RedisLink, redis_url: str
    ) -> None:
        self.folder, self.postgres, self.redis_link = folder, postgres, redis_link
        self.redis = redis.Redis.from_url(redis_url)
        self.caller = Caller(0, "")
        self.workers = 0
        self.seeded = ""
        self._api = psutil.Process()

    def follow(self, api: "subprocess.Popen[bytes]", caller: Caller, workers: int) -> None:
        """Count what these use."""
        self._api, self.caller, self.workers = psutil.Process(api.pid), caller, workers

    async def is_up(self) -> bool:
        """Whether the API answers, and every worker waits for a task."""
        status, _ = await self.caller.call(Route("GET", "/health/live"))
        return status == HTTPStatus.OK and self.redis_link.waiting()[0] == self.workers

    def last_lines(self) -> list[str]:
        """The end of what each process has written."""
        logs = [path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))]
        return [line for log in logs for line in log.splitlines()[-10:]]

    def reading(self) -> dict[str, float]:
        """What was used so far: seconds of the processor, held and busy; operations.

        `delayed` are seconds that the API was ready to run and other programs had the processor.
        """
        held = [memoryview(path.read_bytes()).cast("d") for path in self.folder.glob("held-*")]
        now, (_, waited) = monotonic(), self.redis_link.waiting()
        processor, delayed = self._processor()
        return {
            "time": now,
            "processor": processor,
            "delayed": delayed,
            "database": sum(each[0] for each in held),
            "sync_database": sum(each[1] for each in held),
            "redis": sum(each[2] for each in held),
            "threads": sum(each[3] for each in held),
            "pooler": self.postgres.held,
            "operations": self.redis_link.operations,
            "worker": self.workers * now - waited,
        }

    def _processor(self) -> tuple[float, float]:
        used = delayed = 0.0
        for each in (self._api, *self._api.children(recursive=True)):
            try:
                # In nanoseconds; what `cpu_times` returns is in hundredths of a second. The clock
                # is that of clock_getcpuclockid(3), and schedstat that of the event loop's thread.
                own = time.clock_gettime((~each.pid << 3) | 2)
                _, waited, _ = Path(f"/proc/{each.pid}/schedstat").read_text("ascii").split()
            except (OSError, ValueError):  # not on Linux
                own, waited = sum(each.cpu_times()[:2]), "0"
            used += own
            delayed += int(waited) / 1e9
        return used, delayed

    def keys(self) -> set[bytes]:
        """The keys that Redis has."""
        return set(self.redis.scan_iter(count=1000))

    def bytes_of(self, keys: set[bytes]) -> int:
        """Bytes that these take in Redis."""
        pipeline = self.redis.pipeline(transaction=False)
        for key in keys:
            pipeline.memory_usage(key, samples=0)
        return sum(each or 0 for each in pipeline.execute())

    async def settle(self) -> float:
        """Wait until every worker waits for a task; returns the moment at which it began to."""
        deadline, since = monotonic() + SETTLE_SECONDS, None
        while monotonic() < deadline:
            if self.redis_link.waiting()[0] < self.workers:
                since = None
            elif since is None:
                since = monotonic()
            elif monotonic() > since + 0.1:
                return since
            await asyncio.sleep(0.01)
        return monotonic()


@asynccontextmanager
async def running_service(settings: Settings, plan: Plan, rows: int) -> AsyncIterator[Running]:
    """Start servers, API, workers and beat, all of which end with the block.

    Raises:
        StartupError: when a part does not start; with the last lines of its output.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rehearsal-")))
        servers = stack.enter_context(temporary_servers())
        is_pooled = pooler_mode(settings) == "transaction"
        postgres = await stack.enter_async_context(
            PostgresLink(
                servers.postgres.port,
                latency=plan.latency,
                connections=settings.POSTGRES_CONNECTION_LIMIT,
                servers=plan.pooler_connections if is_pooled else None,
            )
        )
        redis_link = await stack.enter_async_context(
            RedisLink(
                servers.redis.port,
                latency=plan.latency,
                connections=settings.REDIS_CONNECTION_LIMIT,
            )
        )
        running = Running(folder, postgres, redis_link, servers.redis.url)
        stack.callback(running.redis.close)
        running.redis.config_set("maxmemory", int(plan.redis_megabytes * 1e6))
        database = f"{servers.postgres.url}/postgres"
        environment = _environment(settings, database, servers.redis.url)
        await _finish(("-m", "alembic", "upgrade", "heads"), environment)
        direct = environment.copy()
        environment |= _environment(
            settings,
            database.replace(f":{servers.postgres.port}/", f":{postgres.port}/"),
            servers.redis.url.replace(f":{servers.redis.port}/", f":{redis_link.port}/"),
        )
        workers = task_processes(settings)
        api = _start(stack, API, environment, folder / "api.log")
        for number in range(workers):
            _start(stack, WORKER, environment, folder / f"worker-{number}.log")
        for number in range(settings.CELERY_BEATS):
            _start(stack, BEAT, environment, folder / f"beat-{number}.log")
        token = await _finish(
            ("-m", "kit.commands.token", "create", "--scopes", "*", "rehearsal"), direct
        )
        try:
            seed = ("-m", "kit.commands.seed", "--rows", str(rows))
            running.seeded = await _finish(seed, direct)
        except StartupError as error:
            running.seeded = f"No made-up rows: {error.message.rpartition('error: ')[2]}"
        caller = Caller(int(environment["API_PORT"]), token.splitlines()[-1])
        running.follow(api, caller, workers)
        deadline = monotonic() + START_SECONDS
        while not await running.is_up():
            if api.poll() is not None or monotonic() > deadline:
                raise StartupError("the service does not start:", *running.last_lines())
            await asyncio.sleep(0.05)
        yield running


def _environment(settings: Settings, database: str, redis_url: str) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return os.environ | {
        "DATABASE_URL": database,
        "POSTGRES_SSLMODE": "disable",
        "POSTGRES_POOLER": pooler_mode(settings),
        "REDIS_URL": redis_url,
        "API_HOST": "127.0.0.1",
        "ALLOWED_HOSTS": "127.0.0.1",
        "API_PORT": str(port),
        "API_WORKERS": str(api_processes(settings)),
        "API_INSTANCES": "1",
        "API_DOCS": "true",
        "API_RATE_LIMIT": "100000000",  # counts, as in production, and refuses none
    }


async def _finish(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=BASE_DIR,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        raise StartupError(f"{' '.join(command[1:])} failed:\n{output.decode().strip()}")
    return output.decode().strip()


def _start(
    stack: AsyncExitStack, command: tuple[str, ...], environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=BASE_DIR,
            env={**environment, "REHEARSAL_FOLDER": str(log.parent)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the rehearsal, which then ends them
            preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (libc alone)
        )
    stack.push_async_callback(_end, process)
    return process


async def _end(process: "subprocess.Popen[bytes]") -> None:
    # The servers and links behind it end with it: there is nothing that it could finish.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

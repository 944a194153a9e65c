"""The board: the state of the service as rows of text, read again while somebody looks."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.requests import Request

from kit.connections import Census
from kit.errors import first_line
from kit.extensions import load_extensions
from kit.live._memory import RequestMemory, memory
from kit.live._release import newer_release
from kit.places import service
from kit.status import DatabaseReading, RedisReading, ServiceStatus, read_status

logger = logging.getLogger(__name__)

READING_SECONDS = 5
"""Between readings of Redis and the database, while somebody looks."""
TICK_SECONDS = 1
FIRST_READING_SECONDS = 0.5
"""For which a page waits, at most; a server that is away would hold it longer."""
_ROLES = ("api", "worker", "beat")


@dataclass(frozen=True)
class Row:
    """One line: `state` is `up`, `down` or empty, `url` an address of the service."""

    name: str
    value: str
    state: str = ""
    url: str = ""


@dataclass(frozen=True)
class Panel:
    """Rows under a title."""

    title: str
    rows: list[Row] = field(default_factory=list)


class Board:
    """What the page shows; one sampler reads it for all who look, and only while they do."""

    def __init__(self, requests: RequestMemory) -> None:
        self.memory = requests
        self.panels: list[Panel] = []
        self._status: ServiceStatus | None = None
        self._viewers = 0
        self._sampler: asyncio.Task[None] | None = None
        self._page = ""
        self._turned = asyncio.Event()

    async def refresh(self) -> None:
        """Read the state anew, unless that was done within the last seconds."""
        status = await read_status(READING_SECONDS)
        if status is not self._status:
            self._status = status
            self.panels = [*_panels(status), *[each async for each in _panels_of_extensions()]]

    async def refresh_for_page(self) -> None:
        """The same, but not for longer than a page may wait; the reading goes on."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.refresh(), FIRST_READING_SECONDS)

    async def watch(self, request: Request) -> AsyncGenerator[str]:
        """The board as HTML, now and whenever it has changed."""
        self._viewers += 1
        try:
            if self._sampler is None or self._sampler.done():
                self._turned, self._page = asyncio.Event(), ""
                self._sampler = asyncio.create_task(self._sample(request))
            shown = ""
            while True:
                turned = self._turned
                if self._page != shown:
                    shown = self._page
                    yield shown
                await turned.wait()
        finally:
            self._viewers -= 1
            if not self._viewers and self._sampler:
                self._sampler.cancel()

    async def _sample(self, request: Request) -> None:
        template = service.templates.env.get_template("live/board.html")
        while True:
            try:
                await self.refresh()
                self._page = template.render(request=request)
            except Exception:
                logger.exception("The start page's state cannot be read")
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()
            await asyncio.sleep(TICK_SECONDS)


board = Board(memory)


async def _panels_of_extensions() -> AsyncIterator[Panel]:
    for name, module in load_extensions("start_page"):
        try:
            yield await module.read_panel()
        except Exception as error:  # noqa: BLE001 (the others are shown)
            yield Panel(name, [Row(type(error).__name__, first_line(error), "down")])


def _panels(status: ServiceStatus) -> Iterator[Panel]:
    if status.problems:
        yield Panel("Not reached", [Row(*each, "down") for each in status.problems.items()])
    if newest := newer_release():
        yield Panel("Update", [Row(f"{newest} is there", "uvx copier update")])
    yield Panel("Processes", [*_processes(status)])
    yield Panel("Tasks", [*_tasks(status.redis, status.database)])
    yield Panel("Connections", [*_connections(status)])
    if status.database:
        missing = ", ".join(status.database.missing_migrations)
        row = (
            Row("Pending", f"{missing}: make db-upgrade", "down")
            if missing
            else Row("Pending", "none", "up")
        )
        yield Panel("Migrations", [row])


def _processes(status: ServiceStatus) -> Iterator[Row]:
    held: dict[tuple[str, int | None], list[str]] = defaultdict(list)
    for server, part in (("Redis", status.redis), ("PostgreSQL", status.database)):
        for holder in part.connections.holders if part else ():
            if holder.pid:
                held[holder.role, holder.pid].append(f"{holder.connections} {server}")
    for (role, pid), connections in sorted(held.items()):
        yield Row(f"{role} {pid}", ", ".join(connections), "up")
    if status.redis and status.redis.connections.holders:
        for role in _ROLES:
            if role not in {role for role, _ in held}:
                yield Row(role, "none runs", "down")


def _tasks(redis: RedisReading | None, database: DatabaseReading | None) -> Iterator[Row]:
    if redis:
        for queue in redis.status.queues:
            age = queue.oldest_age_seconds
            oldest = "" if age is None else f", the oldest since {_seconds(age)}"
            yield Row(f"Queue {queue.name}", f"{queue.waiting} wait{oldest}")
        yield Row("With workers", f"{redis.status.unacknowledged}")
        dead = redis.status.dead_letters
        yield Row("Dead letters", f"{dead}: make dead-letters" if dead else "none", _bad(dead > 0))
        beat = redis.status.heartbeat_age_seconds
        yield Row(
            "Beat's heartbeat",
            "not seen" if beat is None else f"{_seconds(beat)} ago",
            _bad(redis.status.is_heartbeat_late),
        )
    for backlog in database.backlogs if database else ():
        yield Row(f"Outbox {backlog.table}", f"{backlog.waiting} to be sent")


def _connections(status: ServiceStatus) -> Iterator[Row]:
    if status.redis:
        yield _census("Redis", status.redis.connections)
        memory_of = status.redis.status
        limit = memory_of.memory_limit_bytes
        of = f" of {limit / 1e6:,.0f}" if limit else ""
        yield Row("Redis memory", f"{memory_of.used_memory_bytes / 1e6:,.1f}{of} MB")
    if status.database:
        yield _census("PostgreSQL", status.database.connections)


def _census(server: str, census: Census) -> Row:
    used = "?" if census.in_use is None else census.in_use
    value = f"{used} of {census.plan.limit}, planned {census.plan.total}"
    return Row(server, value, _bad(census.is_over))


def _bad(is_bad: bool) -> str:
    return "down" if is_bad else "up"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004

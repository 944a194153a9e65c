"""What the service is doing, live on the start page of a developer's machine; nothing elsewhere.

The board shows the state of the service, read again while a page is open, and the last requests of
this process, whose log lines are kept in memory. The routes are below `/_live`.
"""

import asyncio
import logging
import os
import re
import subprocess
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import ASGIApp, Receive, Scope, Send

from kit.causes import first_line
from kit.connections import Census
from kit.context import get_request_id, root_path
from kit.errors import Problem
from kit.extensions import load_extensions
from kit.places import service
from kit.process import ConsoleFormatter
from kit.settings import BASE_DIR
from kit.status import DatabaseReading, RedisReading, ServiceStatus, read_status

logger = logging.getLogger(__name__)

ANSWERS = BASE_DIR / ".copier-answers.yml"
NEWEST = BASE_DIR / ".data" / "newest-release"
DAY_SECONDS = 86_400
TIMEOUT_SECONDS = 10

_HOSTS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_VERSION = r"v?(\d+)\.(\d+)\.(\d+)"


def newer_release() -> str:
    """The newest release, if it is newer than the service's; empty also where that is not known."""
    with suppress(OSError, AttributeError):
        [newest, own] = [
            tuple(map(int, re.match(_VERSION, text).groups()))  # type: ignore[union-attr]
            for text in (NEWEST.read_text(encoding="utf-8"), _answers()["commit"])
        ]
        if newest > own:
            return ".".join(map(str, newest))
    return ""


def look_up_release() -> None:
    """Ask git for the newest release, in the background and at most once a day."""
    with suppress(OSError):
        if not NEWEST.exists() or time.time() - NEWEST.stat().st_mtime > DAY_SECONDS:
            NEWEST.parent.mkdir(exist_ok=True)
            NEWEST.touch()  # an attempt counts too, as one without a network
            threading.Thread(target=_look_up, daemon=True).start()


def _look_up() -> None:
    source = _answers()["src_path"]
    for short, host in _HOSTS.items():
        source = re.sub(f"^{short}", host, source)
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "ls-remote", "--tags", "--refs", "--", source],
            env={
                "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
                **os.environ,
                "GIT_TERMINAL_PROMPT": "0",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
        found = re.findall(rf"refs/tags/{_VERSION}$", done.stdout, re.MULTILINE)
        if found:
            NEWEST.write_text(".".join(max(found, key=lambda parts: [*map(int, parts)])), "utf-8")


def _answers() -> dict[str, str]:
    """Where the service comes from, and of which release it is; empty where that is not known."""
    text = ANSWERS.read_text(encoding="utf-8") if ANSWERS.exists() else ""
    found = dict(re.findall(r"^_(src_path|commit): (.+)$", text, re.MULTILINE))
    return {"src_path": "", "commit": "", **found}


REQUESTS = 50
LINES = 50
LONGEST_LINE = 20_000
"""Characters, so that a traceback is one line: 50 MB if all lines were that long."""
SHOWN = 8
_FIRST_FAILURE = 500
_OF_PAGES = ("/static", "/admin/statics", "/admin/_kit", "/scalar/", "/health/", "/_live")
"""What pages load, and what asks again and again: of no interest unless it fails."""


@dataclass(frozen=True)
class SeenRequest:
    """A request that was answered."""

    id: str
    method: str
    path: str
    status: int | None
    """None where it was not answered."""
    milliseconds: float
    ended_at: datetime

    @property
    def has_failed(self) -> bool:
        """Whether it was the service's fault."""
        return self.status is None or self.status >= _FIRST_FAILURE


class RequestMemory(logging.Handler):
    """Remembers log lines by request, with secrets masked as in the log, and the access lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(ConsoleFormatter())
        self._lines: dict[str, deque[str]] = {}
        self.requests: deque[SeenRequest] = deque(maxlen=SHOWN)
        """The last ones, newest first."""
        self.failures: deque[SeenRequest] = deque(maxlen=SHOWN)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line, unless it belongs to no request."""
        request_id = get_request_id()
        if not request_id:
            return
        lines = self._lines.setdefault(request_id, deque(maxlen=LINES))
        lines.append(self.format(record)[:LONGEST_LINE])
        if hasattr(record, "duration_ms"):
            seen: Any = record  # with the access line's `extra`
            ended_at = datetime.fromtimestamp(record.created, UTC)
            self._remember(
                SeenRequest(
                    request_id, seen.method, seen.path, seen.status, seen.duration_ms, ended_at
                )
            )
        if len(self._lines) > REQUESTS:
            failed = {each.id for each in self.failures}
            del self._lines[next(each for each in self._lines if each not in failed)]

    def _remember(self, request: SeenRequest) -> None:
        if request.has_failed:
            self.failures.appendleft(request)
        elif request.path.startswith(_OF_PAGES):
            del self._lines[request.id]
            return
        self.requests.appendleft(request)

    def lines_of(self, request_id: str) -> list[str]:
        """The log of a request; empty where it is not known, or no longer."""
        return [*self._lines.get(request_id, ())]


memory = RequestMemory()


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
                self._sampler = None  # it ends later than the next viewer may come

    async def _sample(self, request: Request) -> None:
        template = service.templates.env.get_template("live/board.html")
        while True:
            try:
                await self.refresh()
                self._page = template.render(request=request, board=self)
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
        yield Panel("Not in order", [Row(*each, "down") for each in status.problems.items()])
    if newest := newer_release():
        yield Panel("Update", [Row(f"{newest} is there", "uvx copier update")])
    yield Panel("Processes", [*_processes(status)])
    yield Panel("Tasks", [*_tasks(status.redis, status.database)])
    yield Panel("Connections", [*_connections(status)])
    if status.database:
        missing = ", ".join(status.database.missing_migrations)
        value = f"{missing}: make db-upgrade" if missing else "none"
        yield Panel("Migrations", [Row("Pending", value, _bad(bool(missing)))])


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


router = APIRouter(prefix="/_live", include_in_schema=False)


def setup_live(application: FastAPI) -> None:
    """Remember requests, and serve what `live/live.html` shows; for `ENVIRONMENT=local` alone."""
    logging.getLogger().addHandler(memory)
    service.templates.env.globals["board"] = board
    application.include_router(router)
    application.add_middleware(FreshBoard)


class FreshBoard:
    """Has the state read before the start page is rendered, which does not wait by itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].removeprefix(root_path(scope)) == "/":
            await board.refresh_for_page()
        await self.app(scope, receive, send)


@router.get("", response_class=EventSourceResponse)
async def watch(request: Request) -> AsyncIterator[ServerSentEvent]:
    """The board as HTML, for as long as the page is open or the server runs."""
    look_up_release()
    request.state.ends_with_server = True
    async for page in board.watch(request):
        yield ServerSentEvent(raw_data=page)


@router.get("/requests/{request_id}")
async def show_request(request: Request, request_id: str) -> HTMLResponse:
    """The log lines of a request."""
    lines = memory.lines_of(request_id)
    if not lines:
        raise Problem(HTTPStatus.NOT_FOUND, "No line of this request is kept, or none any more.")
    return service.templates.TemplateResponse(
        request, "live/request.html", {"request_id": request_id, "lines": lines}
    )

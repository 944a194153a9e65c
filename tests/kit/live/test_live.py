"""What is live on the start page in development, what it costs, and that it is not elsewhere."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import create_engine, make_url, text
from starlette.requests import Request

from app.core.config import BASE_DIR, settings
from app.core.database import engine
from app.main import app
from kit import live
from kit import status as status_module
from kit.connections import Census
from kit.live import LINES, REQUESTS, SHOWN, Board, RequestMemory, memory
from kit.status import DatabaseReading, ServiceStatus, StatusReader
from kit.testing import free_port
from kit.testing._processes import _wait_until_alive, own_database
from kit.tests.devservices.project import wait_until

SECRET = "hunter2hunter2"
REQUEST = Request({"type": "http", "headers": [], "path": "/", "root_path": ""})


@pytest.fixture(autouse=True)
def no_earlier_reading(test_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "_reader", StatusReader())


@pytest.fixture
def board() -> Board:
    """A board of its own."""
    return Board(RequestMemory())


class TestRequests:
    @pytest.fixture(autouse=True)
    def broken_route(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A route that logs a password and fails."""
        monkeypatch.setattr("kit.process.known_secrets", {SECRET})

        async def fail() -> None:
            logging.getLogger("app.orders").warning("paying with %s", SECRET)
            raise RuntimeError(f"<no> such order, {SECRET}")

        app.router.routes.insert(0, APIRoute("/fail", fail))
        yield
        app.router.routes.pop(0)

    @pytest.fixture
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http

    async def test_a_failure_is_shown_with_its_lines(self, http: httpx.AsyncClient) -> None:
        failed = await http.get("/fail")
        assert failed.status_code == 500
        address = f"/_live/requests/{failed.headers['X-Request-ID']}"
        page = (await http.get("/")).text
        assert (
            f'href="{address}"' in page.partition("Last failures")[2].partition("Last requests")[0]
        )
        lines = (await http.get(address)).text
        assert "app.orders: paying with ***" in lines
        assert "Traceback" in lines
        assert "&lt;no&gt; such order, ***" in lines
        assert "GET /fail 500" in lines
        assert SECRET not in lines

    async def test_a_request_is_no_failure(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/nowhere")
        link = f"/_live/requests/{answer.headers['X-Request-ID']}"
        failures, _, requests = (await http.get("/")).text.partition("Last requests")
        assert link in requests
        assert link not in failures

    async def test_what_a_page_loads_is_of_no_interest(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/static/css/style.css")
        assert memory.lines_of(answer.headers["X-Request-ID"]) == []

    async def test_an_unknown_one_is_a_404(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/_live/requests/unknown")).status_code == 404

    def test_memory_is_bounded_and_keeps_failures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = RequestMemory()

        def log(request_id: str, path: str, status: int) -> None:
            monkeypatch.setattr("kit.live.get_request_id", lambda: request_id)
            for _ in range(LINES):
                kept.handle(logging.makeLogRecord({"name": "a", "msg": "x" * 30_000}))
            values = {"method": "GET", "path": path, "status": status, "duration_ms": 1.0}
            kept.handle(logging.makeLogRecord({"name": "app.access", "msg": "seen", **values}))

        log("bad", "/orders", 500)
        for number in range(2 * REQUESTS):
            log(str(number), "/orders", 200)
        assert len(kept.requests) == SHOWN
        assert [each.id for each in kept.failures] == ["bad"]
        assert kept.lines_of("bad")[-1].endswith("seen")
        assert len(kept._lines) == REQUESTS
        assert kept.lines_of("0") == []
        assert max(len(line) for line in kept.lines_of("bad")) < 21_000
        assert len(kept.lines_of("bad")) == LINES


class TestPanels:
    def rows(self, board: Board, title: str) -> dict[str, tuple[str, str]]:
        [panel] = [each for each in board.panels if each.title == title]
        return {row.name: (row.value, row.state) for row in panel.rows}

    async def test_the_page_has_them_without_a_script(self, client: httpx.AsyncClient) -> None:
        page = re.sub(r"<script.*?</script>", "", (await client.get("/")).text)
        for title in ("Processes", "Tasks", "Connections", "Migrations"):
            assert f"<h2>{title}</h2>" in page
        assert re.search(r"\d+ of \d+, planned \d+", page)
        assert "Queue celery" in page

    async def test_a_server_that_is_away_is_named(
        self, board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def read(_: float) -> ServiceStatus:
            return ServiceStatus(None, None, {"redis": "ConnectionError: refused"})

        monkeypatch.setattr(live, "read_status", read)
        await board.refresh()
        assert self.rows(board, "Not in order") == {"redis": ("ConnectionError: refused", "down")}

    async def test_migrations_that_are_missing(
        self, board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan: Any = SimpleNamespace(limit=10, total=3, is_exceeded=False)
        database = DatabaseReading(Census((), 4, plan), (), ("core_0009",))

        async def read(_: float) -> ServiceStatus:
            return ServiceStatus(None, database)

        monkeypatch.setattr(live, "read_status", read)
        await board.refresh()
        assert self.rows(board, "Migrations")["Pending"] == ("core_0009: make db-upgrade", "down")
        assert self.rows(board, "Connections")["PostgreSQL"] == ("4 of 10, planned 3", "up")

    async def test_an_extension_that_fails_does_not_hide_the_rest(
        self, board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail() -> live.Panel:
            raise LookupError("no mails")

        async def read_panel() -> live.Panel:
            return live.Panel("Parcels", [live.Row("Parcel 1", "lost", "down", "/parcels/1")])

        modules = [
            ("mail", SimpleNamespace(read_panel=fail)),
            ("b", SimpleNamespace(read_panel=read_panel)),
        ]
        monkeypatch.setattr(live, "load_extensions", lambda _: modules)
        await board.refresh()
        assert self.rows(board, "mail") == {"LookupError": ("no mails", "down")}
        assert self.rows(board, "Parcels") == {"Parcel 1": ("lost", "down")}


class TestViewers:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ticks every 10 ms."""
        monkeypatch.setattr(live, "TICK_SECONDS", 0.01)

    async def test_fifty_cost_what_one_does(
        self, board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        readings = 0

        async def count_readings() -> Any:
            nonlocal readings
            readings += 1
            return await read()

        read = status_module._read_database
        monkeypatch.setattr(status_module, "_read_database", count_readings)
        viewers = [board.watch(REQUEST) for _ in range(50)]
        pages = await asyncio.gather(*map(anext, viewers))
        assert len(set(pages)) == 1
        assert "Queue celery" in pages[0]
        assert readings == 1
        waiting = [asyncio.ensure_future(anext(each)) for each in viewers]
        await asyncio.sleep(0.1)
        pool: Any = engine.pool
        assert pool.checkedout() == 0
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def test_all_of_them_see_a_change(self, board: Board) -> None:
        viewers = [board.watch(REQUEST) for _ in range(3)]
        before = await asyncio.gather(*map(anext, viewers))
        answer_a_request(board)
        after = await asyncio.wait_for(asyncio.gather(*map(anext, viewers)), 20)
        assert "/orders" not in before[0]
        assert all("/orders" in page for page in after)
        for viewer in viewers:
            await viewer.aclose()

    async def test_a_page_that_is_loaded_again_sees_a_change(self, board: Board) -> None:
        first, second = board.watch(REQUEST), board.watch(REQUEST)
        await anext(first)
        await first.aclose()
        assert "/orders" not in await anext(second)
        answer_a_request(board)
        assert "/orders" in await asyncio.wait_for(anext(second), 20)
        await second.aclose()

    async def test_nothing_is_read_once_the_last_has_gone(self, board: Board) -> None:
        first, second = board.watch(REQUEST), board.watch(REQUEST)
        await anext(first)
        await anext(second)
        sampler = board._sampler
        assert sampler
        await first.aclose()
        assert not sampler.done()
        await second.aclose()
        await asyncio.wait({sampler}, timeout=20)
        assert sampler.done()
        assert "Queue celery" in await anext(board.watch(REQUEST))  # and again for the next one

    async def test_a_failure_is_logged_and_the_next_reading_is_shown(
        self, board: Board, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        failures = [RuntimeError("no reading")]
        refresh = board.refresh

        async def fail_once() -> None:
            if failures:
                raise failures.pop()
            await refresh()

        monkeypatch.setattr(board, "refresh", fail_once)
        assert "Queue celery" in await anext(board.watch(REQUEST))
        assert "no reading" in caplog.text


def answer_a_request(board: Board) -> None:
    seen = {"method": "GET", "path": "/orders", "status": 200, "duration_ms": 1.0}
    record = logging.makeLogRecord({"name": "app.access", "msg": "", **seen})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kit.live.get_request_id", lambda: "f00")
        board.memory.handle(record)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM")
def test_fifty_viewers_hold_no_connection_and_do_not_delay_the_end(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    with own_database() as environment, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "kit.commands.serve"],
            cwd=BASE_DIR,
            env={**os.environ, **environment, "API_PORT": str(port)},
            stderr=log,
        )
        seen: list[str] = []
        try:
            _wait_until_alive(process, address)
            with ThreadPoolExecutor(50) as viewers:
                ends = [viewers.submit(_view, f"{address}/_live", seen) for _ in range(50)]
                wait_until(lambda: len(seen) >= 50 or any(end.done() for end in ends), 60)
                held = _connections(environment)
                process.terminate()
            assert process.wait(60) in (0, -signal.SIGTERM)
        finally:
            process.kill()
            process.wait()
    assert held <= 2  # that of the reading, and one of the start
    assert [end.exception() for end in ends] == [None] * 50
    assert "graceful shutdown exceeded" not in (tmp_path / "log").read_text(encoding="utf-8")


def _view(address: str, seen: list[str]) -> None:
    """Watch until the server ends, and note the first page."""
    with httpx.stream("GET", address, timeout=60) as answer, suppress(httpx.RemoteProtocolError):
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for number, line in enumerate(each for each in answer.iter_lines() if "celery" in each):
            seen.extend([line] if number == 0 else [])


def _connections(environment: dict[str, str]) -> int:
    """How many connections the API has to its database, in use or not."""
    url = make_url(environment["DATABASE_URL"]).set(drivername="postgresql+psycopg2")
    database = create_engine(url)
    counted = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE '%\\:api@%'"
    )
    with database.connect() as connection:
        number: int = connection.scalar(text(counted))
    database.dispose()
    return number


LOOK = """
import sys
from fastapi.routing import iter_route_contexts
from app.main import app
print([each.path for each in iter_route_contexts(app.routes) if each.path.startswith("/_live")])
print([name for name in sys.modules if name.startswith(("kit.live", "kit.status", "fastapi.sse."))])
"""
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k3yThatNobodyCouldGuess-0123456789",
    "CORS_ORIGINS": "none",
    "ENABLED_EXTENSIONS": "_example",  # others may want settings of their own outside local
}


@pytest.mark.parametrize("environment", [PRODUCTION, {"ENVIRONMENT": "local"}], ids=str)
def test_it_is_not_there_outside_local(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=BASE_DIR,
        env={**os.environ, **environment, "DATABASE_URL": settings.SYNC_DATABASE_URL},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    routes, modules = done.stdout.splitlines()
    if environment is PRODUCTION:
        assert (routes, modules) == ("[]", "[]")
    else:
        assert "'/_live'" in routes
        assert "'kit.live'" in modules

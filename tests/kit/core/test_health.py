"""Probes: what is told, within what time, and at what cost."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from app.core import database
from app.core.database import engine
from kit.errors import setup_errors
from kit.http import _routers as health
from kit.http._middleware import middleware_stack
from kit.http._routers import HealthCheck, health_router


@pytest.fixture(autouse=True)
def fresh_checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, HealthCheck]:
    """Checks that remember nothing of the tests before."""
    checks = {
        "database": HealthCheck(health.ping_database),
        "redis": HealthCheck(health.ping_redis),
    }
    monkeypatch.setattr(health, "checks", checks)
    return checks


@pytest.fixture
async def http(test_database: str) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(middleware=middleware_stack())
    setup_errors(app)
    app.include_router(health_router)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await engine.dispose()


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers, as a host that hangs does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


class Pings:
    """A ping that counts itself, and waits for `release`."""

    def __init__(self) -> None:
        self.count = 0
        self.release = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        await self.release.wait()


async def ping() -> None: ...


async def fail() -> None:
    raise ConnectionRefusedError("10.1.2.3 port 5432, password hunter2")


async def be_busy() -> None:
    raise PoolTimeoutError


class TestReady:
    async def test_503_names_what_is_down_and_no_more(
        self, http: httpx.AsyncClient, fresh_checks: dict[str, HealthCheck]
    ) -> None:
        fresh_checks["redis"] = HealthCheck(fail)
        answer = await http.get("/health/ready")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) > 0
        checks = answer.json()["checks"]
        assert checks["redis"] == {"state": "down", "reason": "unreachable", "latency_ms": None}
        assert checks["database"]["state"] == "up"
        assert "10.1.2.3" not in answer.text
        assert "hunter2" not in answer.text

    async def test_the_log_says_why_once_a_cause(
        self,
        http: httpx.AsyncClient,
        fresh_checks: dict[str, HealthCheck],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Where a balancer sends no requests to what is not ready, nothing else names the cause."""
        monkeypatch.setattr(health, "HEALTH_CACHE_SECONDS", 0)
        pings = [ping, be_busy, fail, fail, fail, ping, ping]

        async def ping_server() -> None:
            await pings.pop(0)()

        fresh_checks["redis"] = HealthCheck(ping_server)
        for _ in range(7):
            await http.get("/health/ready")
        assert [each.message for each in caplog.records if each.name == health.__name__] == [
            "ping_server: TimeoutError: ()",
            "ping_server: ConnectionRefusedError: 10.1.2.3 port 5432, password hunter2",
            "ping_server: works again",
        ]

    async def test_a_full_pool_is_busy(
        self, http: httpx.AsyncClient, fresh_checks: dict[str, HealthCheck]
    ) -> None:
        fresh_checks["database"] = HealthCheck(be_busy)
        answer = await http.get("/health/ready")
        assert answer.json()["checks"]["database"]["reason"] == "busy"

    @pytest.mark.slow
    async def test_a_database_that_hangs_is_told_within_the_timeout(
        self,
        http: httpx.AsyncClient,
        silent_server: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        url = f"postgresql+asyncpg://user:password@127.0.0.1:{silent_server}/database"
        monkeypatch.setattr(database, "engine", create_async_engine(url))
        monkeypatch.setattr(health, "HEALTH_TIMEOUT_SECONDS", 0.2)
        answer = await asyncio.wait_for(http.get("/health/ready"), timeout=2)
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"]["reason"] == "timeout"

    @pytest.mark.parametrize("probe", ["live", "ready"])
    async def test_answers_to_head(self, http: httpx.AsyncClient, probe: str) -> None:
        answer = await http.head(f"/health/{probe}")

        assert answer.status_code == 200
        assert not answer.content

    async def test_database_and_redis_are_up(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/health/ready")
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        body = answer.json()
        assert body["status"] == "ready"
        for name in ("database", "redis"):
            assert body["checks"][name]["state"] == "up"
            assert body["checks"][name]["latency_ms"] >= 0


class TestLive:
    async def test_asks_nobody(
        self, http: httpx.AsyncClient, fresh_checks: dict[str, HealthCheck]
    ) -> None:
        fresh_checks["database"] = HealthCheck(fail)
        answer = await http.get("/health/live")
        assert answer.status_code == 200
        assert answer.json() == {"status": "alive"}


class TestHealthCheck:
    async def test_probes_at_the_same_time_share_one_ping(self) -> None:
        ping = Pings()
        check = HealthCheck(ping)
        probes = [asyncio.create_task(check.health()) for _ in range(20)]
        await asyncio.sleep(0)
        ping.release.set()
        assert {result.state for result in await asyncio.gather(*probes)} == {"up"}
        assert ping.count == 1

    async def test_probes_within_a_second_share_one_ping(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ping = Pings()
        ping.release.set()
        check = HealthCheck(ping)
        for _ in range(5):
            await check.health()
        assert ping.count == 1
        monkeypatch.setattr(health, "HEALTH_CACHE_SECONDS", 0)
        await check.health()
        assert ping.count == 2

    async def test_a_probe_that_gives_up_leaves_the_ping_to_the_others(self) -> None:
        ping = Pings()
        check = HealthCheck(ping)
        impatient = asyncio.create_task(check.health())
        patient = asyncio.create_task(check.health())
        await asyncio.sleep(0)
        impatient.cancel()
        ping.release.set()
        assert (await patient).state == "up"

    async def test_a_ping_stuck_in_a_thread_stays_the_only_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "HEALTH_TIMEOUT_SECONDS", 0.05)
        monkeypatch.setattr(health, "HEALTH_CACHE_SECONDS", 0)
        stuck, pings = threading.Event(), []

        async def ping() -> None:
            pings.append(1)
            await to_thread.run_sync(stuck.wait)

        check = HealthCheck(ping)
        results = [await check.health() for _ in range(3)]
        stuck.set()
        assert {result.reason for result in results} == {"timeout"}
        assert len(pings) == 1

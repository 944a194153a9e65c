"""`make rehearse`: links that keep a plan's limits, and the limit that ends first."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy.engine import make_url

from app.core.config import settings
from kit.commands import rehearse as command
from kit.rehearsal import Plan, Report, parse_route
from kit.rehearsal._links import PostgresLink, RedisLink
from kit.rehearsal._run import USED, limits
from kit.rehearsal._running import Route
from kit.settings import BASE_DIR, StartupError
from kit.testing import RedisServer, change_settings
from kit.tests.devservices.project import gone, wait_until

ROUTES = '''
"""Routes of which each uses one limit up."""

import asyncio
import time

from fastapi import APIRouter
from sqlalchemy import text

from app.core.celery import enqueue
from app.core.dependencies import ReadSessionDep
from app.tasks.planted import sleep
from kit.redis import redis_client, run_redis_call

router = APIRouter(prefix="/planted")


@router.get("")
async def list_rows() -> dict[str, list[dict[str, int]]]:
    return {"items": [{"id": 7}]}


@router.get("/{row_id}")
async def read_row(row_id: int) -> int:
    return row_id


@router.get("/limits/database")
async def hold_a_connection(session: ReadSessionDep) -> None:
    await session.scalar(text("SELECT 1"))
    await asyncio.sleep(0.4)


@router.get("/limits/operations")
async def call_redis_often() -> None:
    pipeline = redis_client().pipeline(transaction=False)
    for number in range(10):
        pipeline.get(f"key-{number}")
    await run_redis_call(pipeline.execute)


@router.get("/limits/processor")
async def compute() -> None:
    end = time.thread_time() + 0.03
    while time.thread_time() < end:
        pass


@router.get("/limits/worker")
async def send() -> None:
    await enqueue(sleep)
'''
TASKS = '''
"""A task that takes its time."""

import time

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.sleep")
def sleep() -> None:
    time.sleep(0.6)
'''
PLANTED = ("database", "operations", "processor", "worker")
PROGRAM = """
import asyncio, json, sys
from app.core.config import settings
from kit.rehearsal import Plan, _run as run

run.IDLE_SECONDS, run.LONGEST_TASKS = 3, 2

async def main():
    plan = Plan(latency=0.005)
    reports = {}
    async with run.running_service(settings, plan, 1) as running:
        rehearsal = run.Rehearsal(running, settings, plan, print, 0.5, (0.7, 1.5))
        await rehearsal.rest()
        for name in sys.argv[1:]:
            several, route = [], run.Route("GET", f"/api/planted/limits/{name}")
            for _ in range(3):
                several.append(await rehearsal.of([route]))
                rehearsal.factors = (1.5,)  # the first has shown that the load rises
            # What else the machine does may disturb one of them: the median is judged.
            report = sorted(several, key=lambda each: each.rate / each.expected)[1]
            named = [each and each.key for each in (report.predicted, report.found)]
            reports[name] = {
                "named": named,
                "expected": report.expected,
                "measured": report.rate,
                "failures": report.failures,
                "in use": report.in_use,
            }
        routes = await run._reading_routes(running)
        asked, left_out = await run._answered(running, routes)
    print(json.dumps([reports, [str(each) for each in asked], left_out]))

asyncio.run(main())
"""


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


PING = b"*1\r\n$4\r\nPING\r\n"
WAIT = b"*6\r\n$6\r\nBLMOVE\r\n" + b"$1\r\na\r\n" * 2 + b"$5\r\nRIGHT\r\n" * 2 + b"$1\r\n1\r\n"


class Client:
    """A connection to a link."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def __aenter__(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._link.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, *pieces: bytes, answers: int = 1) -> list[bytes]:
        for piece in pieces:
            self._writer.write(piece)
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        return [(await self._reader.readline()).strip() for _ in range(answers)]


class TestRedisLink:
    async def test_the_31st_connection_is_refused(self, redis_server: RedisServer) -> None:
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(
                RedisLink(redis_server.port, latency=0, connections=30)
            )
            for _ in range(29):
                client = await stack.enter_async_context(Client(link))
                assert await client.ask(PING) == [b"+PONG"]
            async with Client(link) as thirtieth:
                assert await thirtieth.ask(PING) == [b"+PONG"]
                async with Client(link) as client:
                    assert await client.ask() == [b"-ERR max number of clients reached"]
                    assert await client.ask() == [b""], "and closed"
            assert (link.most, link.refused) == (30, 1)
            await asyncio.sleep(0.05)
            client = await stack.enter_async_context(Client(link))
            assert await client.ask(PING) == [b"+PONG"]

    async def test_the_101st_operation_of_a_second_waits(self, redis_server: RedisServer) -> None:
        async with (
            RedisLink(redis_server.port, latency=0, connections=1) as link,
            Client(link) as client,
        ):
            link.most_a_second = 100
            began = time.monotonic()
            await client.ask(PING * 200, answers=200)
            # The first 100 come at once; were there no limit, all would within milliseconds.
            assert time.monotonic() - began > 0.99
            assert link.operations == 200
            await asyncio.sleep(1.1)
            # A second's operations may come at once again, and no more than those.
            assert link._spend(100) == 0
            assert 9 < link._spend(1000) <= 10

    async def test_every_command_counts_however_it_arrives(self, redis_server: RedisServer) -> None:
        store = b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$14\r\n*1\r\n$4\r\nPING\r\n\r\n"
        async with (
            RedisLink(redis_server.port, latency=0, connections=1) as link,
            Client(link) as client,
        ):
            pieces = (store[:9], store[9:30], store[30:] + PING * 2)
            assert await client.ask(*pieces, answers=3) == [b"+OK", b"+PONG", b"+PONG"]
            assert link.operations == 3

    async def test_it_is_as_far_away_as_it_says(self, redis_server: RedisServer) -> None:
        async with (
            RedisLink(redis_server.port, latency=0.1, connections=1) as link,
            Client(link) as client,
        ):
            began = time.monotonic()
            await client.ask(PING)
            assert time.monotonic() - began >= 0.1

    async def test_it_sees_how_long_a_worker_waits(self, redis_server: RedisServer) -> None:
        async with (
            RedisLink(redis_server.port, latency=0, connections=1) as link,
            Client(link) as client,
        ):
            wait = asyncio.create_task(client.ask(WAIT))
            while not link.waiting()[0]:  # noqa: ASYNC110 (a link tells nobody)
                await asyncio.sleep(0.01)
            await wait
            number, seconds = link.waiting()
            assert number == 0
            assert seconds >= 0.99
            await client.ask(PING)
            assert link.waiting() == (0, seconds)


@pytest.mark.usefixtures("test_engine")
class TestPostgresLink:
    async def test_a_connection_beyond_the_plan_is_refused(self) -> None:
        async with self.link(connections=2) as link:
            held = [await self.connect(link) for _ in range(2)]
            with pytest.raises(asyncpg.TooManyConnectionsError, match="max clients reached"):
                await self.connect(link)
            assert (link.most, link.refused) == (2, 1)
            for each in held:
                await each.close()

    async def test_in_transaction_mode_a_transaction_waits_for_a_server(self) -> None:
        async with self.link(connections=10, servers=2) as link:
            clients = [await self.connect(link) for _ in range(3)]
            transactions = [client.transaction() for client in clients[:2]]
            for each in transactions:
                await each.start()
            third = asyncio.create_task(clients[2].fetchval("SELECT 3"))
            await asyncio.sleep(0.2)
            assert not third.done()
            await transactions[0].commit()
            assert await third == 3
            await transactions[1].rollback()
            held = link.held
            assert held >= 0.4
            await asyncio.sleep(0.05)
            assert link.held == held, "none is held between transactions"
            for client in clients:
                await client.close()

    def link(self, **options: Any) -> PostgresLink:
        return PostgresLink(make_url(settings.DATABASE_URL).port or 5432, latency=0, **options)

    async def connect(self, link: PostgresLink) -> Any:
        url = make_url(settings.DATABASE_URL)
        return await asyncpg.connect(
            host="127.0.0.1",
            port=link.port,
            user=url.username,
            password=url.password,
            database=url.database,
            ssl=False,
        )


class TestRoutes:
    def test_are_read_as_they_are_typed(self) -> None:
        route = parse_route('3 POST /api/orders {"number": "R-{n}"}')
        assert route == Route("POST", "/api/orders", '{"number": "R-{n}"}', 3)
        assert parse_route("GET /api/orders?limit=5") == Route("GET", "/api/orders?limit=5")

    def test_a_number_is_in_no_two_requests(self) -> None:
        route = Route("POST", "/api/orders/{n}", '{"number": "R-{n}"}')
        assert len({route.message("") for _ in range(10)}) == 10

    @pytest.mark.parametrize("text", ["", "/api/orders", "get /api/orders", "GET api/orders"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no route, expected as 'GET /api/orders'"):
            parse_route(text)


def test_production_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")
    with pytest.raises(StartupError, match="Run it on a machine for development"):
        command.main([])


class TestReport:
    def test_of_several_that_are_used_up_it_names_the_one_that_ends_first(self) -> None:
        report = reported(database=0.83, processor=0.99)
        assert report.found == report.predicted == report.limits[1]
        text = "\n".join(command._lines(report))
        assert "Predicted: API's database connections end first, at 100 requests/s." in text
        assert "Measured: 90 requests/s, with 83% of API's database connections in use." in text
        assert "Moved by: POSTGRES_POOL_SIZE=10 (computed), POSTGRES_CONNECTION_LIMIT=15." in text

    def test_one_that_was_not_predicted_is_named(self) -> None:
        report = reported(database=0.4, processor=0.9)
        assert report.found
        assert report.found.key == "processor"

    def test_routes_that_wait_for_something_else(self) -> None:
        report = reported(database=0.4, processor=0.5)
        assert report.found is None
        assert "the routes wait for something else" in "\n".join(command._lines(report))

    def test_redis_memory_is_computed_over_the_time_that_results_are_kept(self) -> None:
        report = reported(database=0.9, processor=0.5)
        first = report.limits[0]
        assert first.key == "memory"
        assert first.rate == pytest.approx(28e6 / 3600 / 1000)
        assert "Over a longer time Redis memory ends before, at 7.78" in "\n".join(
            command._lines(report)
        )

    def test_programs_read_the_same(self) -> None:
        report = json.loads(json.dumps(command._as_json(reported(database=0.9, processor=0.5))))
        assert (report["predicted"], report["found"]) == ("database", "database")
        assert (report["rate"], report["rates"]["database"]) == (90, 100)
        assert report["rates"]["worker"] is None


def reported(**in_use: float) -> Report:
    plain = settings.model_copy(update={"POSTGRES_POOL_SIZE": None, "CELERY_RESULT_EXPIRES": 3600})
    nothing = dict.fromkeys([*USED, "memory"], 0.0)
    cost = nothing | {"database": 0.1, "processor": 0.008, "memory": 1000.0}
    every = limits(plain, Plan(), cost, nothing | {"memory": 2e6})
    return Report(
        {"GET /api/orders": cost | {"latency": 0.1}},
        every,
        rate=90,
        in_use=dict.fromkeys(USED, 0.0) | in_use,
        has_ended=True,
    )


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rehearse a copy of the service, with a route for each limit."""
    project = tmp_path_factory.mktemp("rehearsed") / "service"
    ignored = shutil.ignore_patterns(".venv", ".git", ".data", "__pycache__", ".*_cache")
    shutil.copytree(BASE_DIR, project, symlinks=True, ignore=ignored)
    (project / "app/api/planted.py").write_text(ROUTES, encoding="utf-8")
    (project / "app/tasks/planted.py").write_text(TASKS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *PLANTED],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("limit", PLANTED)
def test_the_limit_that_ends_first_is_named_with_its_rate(rehearsed: Any, limit: str) -> None:
    report = rehearsed[0][limit]
    assert report["named"] == [limit, limit], report
    assert report["measured"] == pytest.approx(report["expected"], rel=0.2), report
    assert report["failures"] == {}


@pytest.mark.slow
def test_routes_that_read_are_found(rehearsed: Any) -> None:
    _, asked, left_out = rehearsed
    assert {"GET /api/planted", "GET /api/planted/7", "GET /api/planted/limits/worker"} <= {*asked}
    assert not any("planted" in each for each in left_out)


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    mark = uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "kit.commands.rehearse"],
        cwd=BASE_DIR,
        env={**os.environ, "TMPDIR": str(tmp_path), "MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What a shell starts in the background ignores the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    with process:
        try:
            wait_until(lambda: [*tmp_path.glob("*/beat-0.log")], seconds=90)
            # Of servers, which overwrite their environment, only the parent has the mark.
            started = [each.children(recursive=True) for each in marked(mark)]
            every = [*marked(mark), *(each for children in started for each in children)]
            assert "postgres" in {each.name() for each in every if each.is_running()}
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    wait_until(lambda: gone(*every) and not marked(mark), seconds=60)
    assert [*tmp_path.glob("rehearsal-*")] == []


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found

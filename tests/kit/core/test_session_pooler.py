"""A small plan in session mode: six connections of the pooler for all processes of the service.

Session mode lends a connection to a client for as long as that is connected, so one client too many
waits for another to go: `query_wait_timeout` ends it after two minutes.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine, make_url
from sqlmodel import Session

from app.core.config import BASE_DIR
from kit.security import ensure_admin
from kit.testing._databases import database_engine
from kit.testing._processes import QueueProcess, own_database, run_api
from kit.tests.pgbouncer import Console, pgbouncer

LIMIT = 6
POOL_TIMEOUT = 4
"""Seconds; `POSTGRES_POOL_TIMEOUT` here."""
REQUESTS = 200
ADMIN = {"username": "tester", "password": "correct horse battery staple"}

pytestmark = [pytest.mark.slow, pytest.mark.load]


class Service(NamedTuple):
    """The service behind a pooler of six connections."""

    address: str
    environment: dict[str, str]
    database: Engine
    """Past the pooler."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two API processes and a worker, whose pools are computed from the limit of six."""
    with ExitStack() as stack:
        own = stack.enter_context(own_database())
        pooler = stack.enter_context(pgbouncer("session", pool_size=LIMIT))
        url = make_url(pooler["DATABASE_URL"]).set(database=own["POSTGRES_DB"])
        environment = (
            own
            | pooler
            | {
                "DATABASE_URL": url.render_as_string(hide_password=False),
                "POSTGRES_CONNECTION_LIMIT": str(LIMIT),
                "POSTGRES_POOL_TIMEOUT": str(POOL_TIMEOUT),
                "API_WORKERS": "2",
            }
        )
        address = stack.enter_context(run_api(environment))
        worker = stack.enter_context(QueueProcess("worker", **environment))
        worker.wait_for("ready.")
        database = database_engine(own["POSTGRES_DB"])
        with Session(database) as session:
            ensure_admin(session, **ADMIN)
            session.commit()
        yield Service(address, environment, database)


@pytest.fixture
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is logged in to the admin and waits for no connection of its own."""
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)  # uvicorn closes after 5 s
    # A request that holds a connection waits until the test lets its lock go.
    async with httpx.AsyncClient(base_url=service.address, limits=limits, timeout=200) as client:
        answer = await client.post("/admin/login", data=ADMIN)
        assert answer.status_code == 302, answer.text
        yield client


class Samples:
    """Clients of the pooler, counted every 20 ms while they run."""

    def __init__(self, service: Service) -> None:
        self.clients: list[int] = []
        self._console = Console(service.environment["DATABASE_URL"])
        self._database = service.environment["POSTGRES_DB"]
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    @property
    def most(self) -> int:
        """Most clients at two counts in a row: a client that comes may meet one that just left."""
        pairs = zip(self.clients, self.clients[1:], strict=False)
        return max(min(pair) for pair in pairs)

    def _sample(self) -> None:
        with self._console:
            while not self._done.wait(0.02):
                pool = self._console.pool(self._database)
                self.clients.append(pool["cl_active"] + pool["cl_waiting"])


class Answer(NamedTuple):
    """One request's outcome."""

    path: str
    status: int
    retry_after: str | None
    seconds: float


async def ask(http: httpx.AsyncClient, number: int) -> Answer:
    """The request of this number: half read, some write, and a few open the admin."""
    began = time.monotonic()
    if number % 10 == 0:
        path = "/admin/example-note/list"
        answer = await http.get(path)
    elif number % 2:
        path = "/api/example/notes"
        answer = await http.get(path)
    else:
        path = "new note"
        answer = await http.post("/api/example/notes", json={"title": str(number)})
    seconds = time.monotonic() - began
    return Answer(path, answer.status_code, answer.headers.get("Retry-After"), seconds)


async def test_two_hundred_requests_at_once_never_ask_for_a_seventh_connection(
    service: Service, http: httpx.AsyncClient
) -> None:
    samples = Samples(service)
    answers: list[Answer] = []
    with samples.running():
        await wait_for_words(http)
        doctor = asyncio.create_task(asyncio.to_thread(run_doctor, service))
        while not (answers and doctor.done()):
            answers += await asyncio.gather(*(ask(http, number) for number in range(REQUESTS)))
        found = await doctor

    assert samples.most <= LIMIT
    # Requests in both processes, the admin and the worker; the doctor's comes and goes.
    assert samples.most >= LIMIT - 1, "the load was too small to show it"
    served = Counter(answer.path for answer in answers if answer.status in (200, 201))
    assert len(served) == 3, served
    refused = [answer for answer in answers if answer.status not in (200, 201)]
    assert {answer.status for answer in refused} <= {503}
    assert all(answer.retry_after for answer in refused)
    assert "at the code's heads" in found, found


async def test_requests_beyond_the_capacity_are_answered_within_the_pools_timeout(
    service: Service, http: httpx.AsyncClient
) -> None:
    samples = Samples(service)
    paths = ["/api/example/notes", "/admin/example-note/list"] * (REQUESTS // 2)
    unhindered = await asyncio.gather(*(timed_get(http, path) for path in paths))
    # What as many requests take anyway at once, on this machine and with what else runs on it.
    slack = 3 + 3 * max(answer.seconds for answer in unhindered)
    database = service.database.execution_options(isolation_level="READ COMMITTED")
    with samples.running():
        with database.begin() as blocker:
            blocker.execute(text("LOCK TABLE example_note IN ACCESS EXCLUSIVE MODE"))
            waiting = [asyncio.create_task(timed_get(http, path)) for path in paths]
            # All but those that hold a connection are given up meanwhile.
            done, pending = await asyncio.wait(waiting, timeout=2 * POOL_TIMEOUT + slack)
        late = await asyncio.gather(*pending)

    refused = [task.result() for task in done]
    assert {answer.status for answer in refused} == {503}
    assert all(answer.retry_after for answer in refused)
    # A page of the admin asks for a connection twice: who is it, and what is there.
    for path, waits in (("/api/example/notes", 1), ("/admin/example-note/list", 2)):
        seconds = [answer.seconds for answer in refused if answer.path == path]
        assert max(seconds) < waits * POOL_TIMEOUT + slack, path
    assert len(pending) <= 4, "one for each connection of the two API processes"
    assert {answer.status for answer in late} == {200}
    assert samples.most <= LIMIT
    assert (await http.get("/api/example/notes")).status_code == 200


async def timed_get(http: httpx.AsyncClient, path: str) -> Answer:
    began = time.monotonic()
    answer = await http.get(path)
    seconds = time.monotonic() - began
    return Answer(path, answer.status_code, answer.headers.get("Retry-After"), seconds)


async def wait_for_words(http: httpx.AsyncClient) -> None:
    """Return when the worker has counted the words of a note, with its own connection."""
    note = (await http.post("/api/example/notes", json={"title": "T", "body": "a b"})).json()
    deadline = time.monotonic() + 30
    while (await http.get(f"/api/example/notes/{note['id']}")).json()["word_count"] is None:
        assert time.monotonic() < deadline, "no worker has counted the words"
        await asyncio.sleep(0.1)


def run_doctor(service: Service) -> str:
    """What `make doctor` prints meanwhile, on the connection that is kept for commands."""
    result = subprocess.run(
        [sys.executable, "-m", "kit.commands.doctor"],
        cwd=BASE_DIR,
        env=os.environ | service.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return result.stdout + result.stderr

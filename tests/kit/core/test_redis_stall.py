"""An API whose Redis stands still for ten seconds: who needs it is told, others do not notice."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import httpx
import pytest

from app.core.config import BASE_DIR, settings
from kit.http._routers import HEALTH_CACHE_SECONDS
from kit.testing._processes import QueueProcess, RedisServer, own_database, run_api
from kit.tests.load_service import SYNC_ANSWER, SYNC_PING

STALL_SECONDS = 10
ASYNC_SENDERS = 60
"""More than the 40 threads that all sync endpoints share."""
SYNC_SENDERS = 5
READERS = 5
LONGEST_SECONDS = 15
"""The pool's five and the socket's ten."""

ASYNC_PING = "/api/tasks/ping"
READY = "/health/ready"
UNCONCERNED = [
    "/",
    "/health/live",
    "/openapi.json",
    SYNC_ANSWER,
    "/admin/login",
    "/admin/admin-user/list",
]
"""What needs no Redis: pages, sync endpoints, and the admin in and out of a session."""

pytestmark = [pytest.mark.slow, pytest.mark.load]


@dataclass
class Stall:
    """What was answered while Redis stood still, and after."""

    sent: list[httpx.Response]
    read: list[httpx.Response]
    ready: httpx.Response
    pages: dict[str, list[httpx.Response]]
    states_after: list[str]
    """Of the tasks that were accepted meanwhile, and of one that was sent afterwards."""
    ready_after: httpx.Response


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stall]:
    """One stall, with everybody at work."""
    with (
        own_database() as environment,
        RedisServer(tmp_path_factory.mktemp("redis")) as server,
    ):
        environment["REDIS_URL"] = server.url
        with (
            run_api(environment, module="kit.tests.load_service") as address,
            QueueProcess("worker", **environment) as worker,
            httpx.Client(base_url=address, timeout=60) as http,
        ):
            log_in(http, environment)
            worker.wait_for("ready.")
            accepted = send(http, ASYNC_PING).json()["id"]
            yield stand_still(server, http, accepted)


def log_in(http: httpx.Client, environment: Mapping[str, str]) -> None:
    """Log in to the admin, with an account made for it."""
    made = subprocess.run(
        [sys.executable, "-m", "kit.commands.admin_password", "set", "tester"],
        cwd=BASE_DIR,
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    login = {"username": "tester", "password": made.stdout.splitlines()[-1]}
    assert http.post("/admin/login", data=login).status_code == 302


def stand_still(server: RedisServer, http: httpx.Client, accepted: str) -> Stall:
    """Pause the server, with senders and readers waiting for it, and look at everything else."""
    pages: dict[str, list[httpx.Response]] = {path: [] for path in UNCONCERNED}
    for path in [*pages, READY]:
        assert http.get(path).status_code == 200, path
    callers = ASYNC_SENDERS + SYNC_SENDERS + READERS + 1
    with server.client() as control, ThreadPoolExecutor(callers) as pool:
        control.client_pause(STALL_SECONDS * 1000)
        senders = [pool.submit(send, http, ASYNC_PING) for _ in range(ASYNC_SENDERS)]
        senders += [pool.submit(send, http, SYNC_PING) for _ in range(SYNC_SENDERS)]
        readers = [pool.submit(http.get, f"/api/tasks/{accepted}") for _ in range(READERS)]
        ready = pool.submit(ask_whether_ready, http)
        while not all(each.done() for each in (*senders, *readers, ready)):
            for path, answers in pages.items():
                answers.append(http.get(path))
            time.sleep(0.1)
    sent = [each.result() for each in senders]
    tasks = [answer.json()["id"] for answer in sent if answer.status_code == 202]
    tasks.append(send(http, ASYNC_PING).json()["id"])
    return Stall(
        sent=sent,
        read=[each.result() for each in readers],
        ready=ready.result(),
        pages=pages,
        states_after=[state_at_the_end(http, task_id) for task_id in tasks],
        ready_after=http.get(READY),
    )


def send(http: httpx.Client, path: str) -> httpx.Response:
    return http.post(path, json={"message": "while Redis stands still"})


def ask_whether_ready(http: httpx.Client) -> httpx.Response:
    time.sleep(HEALTH_CACHE_SECONDS)  # so that the answer is not from before
    return http.get(READY)


def state_at_the_end(http: httpx.Client, task_id: str) -> str:
    """The state of a task once it has ended, or after half a minute."""
    deadline = time.monotonic() + 30
    while not (task := http.get(f"/api/tasks/{task_id}").json())["ready"]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return str(task["state"])


def seconds(answers: list[httpx.Response]) -> list[float]:
    return sorted(answer.elapsed.total_seconds() for answer in answers)


def test_senders_are_told_in_time(stall: Stall) -> None:
    statuses = Counter(answer.status_code for answer in stall.sent)
    assert set(statuses) <= {202, 503}, statuses
    # Two hold the process's connections; everybody else could only wait for these.
    assert statuses[503] >= len(stall.sent) - 2 * settings.REDIS_POOL_SIZE, statuses
    assert seconds(stall.sent)[-1] < LONGEST_SECONDS, seconds(stall.sent)


def test_readers_of_results_are_told_in_time(stall: Stall) -> None:
    assert {answer.status_code for answer in stall.read} <= {200, 503}
    assert seconds(stall.read)[-1] < LONGEST_SECONDS, seconds(stall.read)


def test_they_are_told_in_problem_details_when_to_try_again(stall: Stall) -> None:
    refused = [answer for answer in stall.sent + stall.read if answer.status_code == 503]
    for answer in refused:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == 503


@pytest.mark.parametrize("path", UNCONCERNED)
def test_who_needs_no_redis_does_not_notice(stall: Stall, path: str) -> None:
    answers = stall.pages[path]
    assert {answer.status_code for answer in answers} == {200}
    assert len(answers) >= 5
    # One that waited for Redis would have taken five seconds or ten, as all behind it.
    assert median(seconds(answers)) < 1, seconds(answers)
    assert seconds(answers)[-1] < 3, seconds(answers)


def test_readiness_tells_the_truth(stall: Stall) -> None:
    assert stall.ready.status_code == 503
    assert stall.ready.json()["checks"]["redis"]["state"] == "down"
    assert stall.ready.json()["checks"]["database"]["state"] == "up"
    assert seconds([stall.ready])[-1] < 4
    assert stall.ready_after.status_code == 200


def test_what_was_accepted_runs_afterwards(stall: Stall) -> None:
    assert set(stall.states_after) == {"SUCCESS"}

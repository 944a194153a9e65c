"""Tasks that end their worker, and tasks that a worker does not know."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from httpx import AsyncClient

from app.core.celery import celery_app
from app.core.config import settings
from kit.commands import dead_letters
from kit.queue import read_redis_status
from kit.queue._tasks import ping
from kit.redis import DEAD_LETTERS_KEY
from kit.redis._pool import redis_client
from kit.testing._processes import QueueProcess, RedisServer
from kit.tests.devservices.project import wait_until
from kit.tests.watched_service import at_start

DELIVERIES = 3
SECONDS = 60
NOTES = ("unacked", "unacked_index")
"""Where kombu keeps what is not acknowledged."""

SWEPT_SOON = {"CELERY_VISIBILITY_TIMEOUT": "4", "CELERY_TASK_MAX_SECONDS": "3"}
PREFORK = ("--pool", "processes", "--concurrency", "1")
THREADS = ("--pool", "threads", "--concurrency", "4")

pytestmark = pytest.mark.slow

Start = Callable[..., QueueProcess]


@pytest.fixture
def queue_server(use_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of the test's own, on the test run's keys."""
    return use_redis()


@pytest.fixture
def start(queue_server: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker that looks often for lost and unknown tasks; the test's end stops it."""
    workers: list[QueueProcess] = []
    code = (
        "import os\n"
        "from kit.queue import _app, _consumer\n"
        "_app.RESTORE_INTERVAL, _consumer.FIRST_PAUSE = 0.5, 1\n"
        "_consumer.UNKNOWN_FOR_MOST = int(os.environ.get('TEST_UNKNOWN_FOR_MOST', 3600))\n"
    )
    environment = {
        "REDIS_URL": queue_server.url,
        "CELERY_MAX_DELIVERIES": str(DELIVERIES),
        **at_start(tmp_path, code),
    }

    def start(
        *arguments: str, include: str = "kit.tests.deadly_tasks", **changed: str
    ) -> QueueProcess:
        options = ("worker", "--include", include, *arguments)
        workers.append(QueueProcess(*options, **environment | changed))
        workers[-1].wait_for("ready.")
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


def send(name: str, *arguments: object) -> AsyncResult[Any]:
    return celery_app.send_task(name, arguments)


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(path: Path) -> int:
    return len(path.read_text().splitlines())


def wait_until_ended(task: AsyncResult[Any], start: Start, *arguments: str) -> None:
    """Wait for a task, and start a new worker each time when the last has died."""
    worker = start(*arguments, **SWEPT_SOON)
    deadline = time.monotonic() + SECONDS
    while not task.ready():
        assert time.monotonic() < deadline, worker.output
        if not worker.is_running():
            worker = start(*arguments, **SWEPT_SOON)
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["kill", "exit 0", "exit 1", "segmentation fault", "sys.exit"])
async def test_a_task_that_kills_its_process_is_given_up(
    start: Start, tmp_path: Path, client: AsyncClient, way: str
) -> None:
    worker = start(*PREFORK)
    task = send("tests.die", str(tmp_path / "runs"), way)
    healthy = [ping.delay(str(number)) for number in range(3)]

    with pytest.raises(Exception, match=f"given up after {DELIVERIES} deliveries"):
        task.get(timeout=SECONDS)

    assert runs(tmp_path / "runs") == DELIVERIES
    assert [each.get(timeout=SECONDS)["message"] for each in healthy] == ["0", "1", "2"]
    answer = (await client.get(f"/api/tasks/{task.id}")).json()
    assert answer["state"] == "FAILURE"
    assert answer["error"]["type"] == "TaskGivenUpError"
    line = worker.wait_for(f"make dead-letters send={task.id}")
    assert f"tests.die[{task.id}]" in line
    assert f"'{way}'" in line
    assert re.search(r"\bERROR\b", line)
    wait_for_letters(1)
    assert redis_client().exists(*[f"{settings.REDIS_KEY_PREFIX}{key}" for key in NOTES]) == 0


@pytest.mark.parametrize("pool", [("--pool", "solo"), THREADS, PREFORK], ids=lambda each: each[1])
def test_a_task_that_kills_the_whole_worker_is_given_up(
    start: Start, tmp_path: Path, pool: tuple[str, ...]
) -> None:
    """As a container's end does, of which all processes are killed at once."""
    path = tmp_path / "runs"
    task = send("tests.die", str(path), "kill" if pool != PREFORK else "kill worker")
    wait_until_ended(task, start, *pool)
    assert task.state == "FAILURE"
    assert runs(path) == DELIVERIES
    wait_for_letters(1)  # a failure is stored before it
    counts = {"tasks-redelivered": DELIVERIES, "tasks-given-up": 1}
    assert read_redis_status().counts == counts


def test_what_runs_beside_it_is_not_given_up(start: Start, tmp_path: Path) -> None:
    """The healthy ones are killed with it, and swept up with it, until its last delivery."""
    healthy = [send("tests.run_for", str(tmp_path / "healthy"), 0.5) for _ in range(3)]
    task = send("tests.die", str(tmp_path / "runs"), "kill")
    wait_until_ended(task, start, *THREADS)
    assert task.state == "FAILURE"
    start(*THREADS, **SWEPT_SOON)
    assert [each.get(timeout=SECONDS) for each in healthy] == ["done"] * 3
    assert runs(tmp_path / "healthy") > 3
    wait_for_letters(1)
    assert dead_ids() == [task.id]


def test_a_worker_that_is_stopped_costs_no_delivery(start: Start, tmp_path: Path) -> None:
    """A task that waits for its time is put back by each worker that is stopped."""
    celery_app.send_task("tests.run_for", [str(tmp_path / "runs"), 0], countdown=600)
    for _ in range(2):
        worker = start()
        worker.wait_for("received")
        worker.stop()
    message = json.loads(str(redis_client().lindex(f"{settings.REDIS_KEY_PREFIX}celery", 0)))
    assert message["headers"]["redelivered"] is True
    assert "x-delivery-count" not in message["headers"]
    assert read_redis_status().counts == {}


def send_spent(*arguments: object, **options: Any) -> AsyncResult[Any]:
    """Send a task that has had all of its deliveries."""
    task = celery_app.send_task("tests.run_for", arguments, queue="elsewhere", **options)
    queue = f"{settings.REDIS_KEY_PREFIX}elsewhere"
    message = json.loads(str(redis_client().rpop(queue)))
    message["headers"]["x-delivery-count"] = DELIVERIES
    message["properties"]["delivery_info"]["routing_key"] = "celery"
    redis_client().rpush(f"{settings.REDIS_KEY_PREFIX}celery", json.dumps(message))
    return task


def test_an_expired_task_is_not_given_up(start: Start, tmp_path: Path) -> None:
    task = send_spent(str(tmp_path / "runs"), 0, expires=0.1)
    time.sleep(0.2)
    start()
    with pytest.raises(Exception, match="expired"):
        task.get(timeout=SECONDS)
    assert dead_ids() == []


def test_a_full_redis_delays_the_giving_up(
    start: Start, queue_server: RedisServer, tmp_path: Path
) -> None:
    worker = start(**SWEPT_SOON)
    with queue_server.client() as client:
        os.kill(worker.pid, signal.SIGSTOP)  # so that Redis is full before it takes either
        spent = send_spent(str(tmp_path / "runs"), 0)
        unknown = send("tests.nowhere")
        client.config_set("maxmemory", 1)
        os.kill(worker.pid, signal.SIGCONT)
        worker.wait_for(f"{spent.id} stays in Redis")
        worker.wait_for(f"{unknown.id} stays in Redis")
        assert worker.is_running()
        client.config_set("maxmemory", 0)
        wait_for_letters(1)
        assert dead_ids() == [spent.id]
    assert spent.state == "FAILURE"
    assert ping.delay("still there").get(timeout=SECONDS)


@pytest.mark.parametrize("pool", [("--pool", "solo"), PREFORK, THREADS], ids=lambda each: each[1])
def test_a_full_redis_ends_no_worker(
    start: Start, queue_server: RedisServer, tmp_path: Path, pool: tuple[str, ...]
) -> None:
    """It has no room for the result of what has run, which must not run again for that."""
    worker = start(*pool, include="kit.tests.queue_tasks", **SWEPT_SOON)
    send("tests.note_start_and_wait", str(tmp_path / "starts"), str(tmp_path / "end"))
    wait_for_file(tmp_path / "starts")
    with queue_server.client() as client:
        client.config_set("maxmemory", 1)
        (tmp_path / "end").touch()
        worker.wait_for("Redis is full")
        client.config_set("maxmemory", 0)
    assert ping.delay("still there").get(timeout=SECONDS)
    # A task is acknowledged after its result is there.
    wait_until(lambda: not read_redis_status().unacknowledged, SECONDS)
    assert runs(tmp_path / "starts") == 1


def test_a_worker_that_starts_on_a_full_redis_works_it_off(
    start: Start, queue_server: RedisServer, tmp_path: Path
) -> None:
    for _ in range(2):
        send("tests.run_for", str(tmp_path / "runs"), 0)
    with queue_server.client() as client:
        client.config_set("maxmemory", 1)
        worker = start()
        deadline = time.monotonic() + SECONDS
        while read_redis_status().queues[0].waiting or read_redis_status().unacknowledged:
            assert time.monotonic() < deadline, worker.output
            time.sleep(0.1)
        client.config_set("maxmemory", 0)
    assert runs(tmp_path / "runs") == 2
    assert ping.delay("still there").get(timeout=SECONDS)


class TestUnknownTask:
    """A task that the sender has, and the worker not yet."""

    def test_waits_for_a_worker_that_has_it(self, start: Start, tmp_path: Path) -> None:
        old = start(include="kit.tests.queue_tasks")
        task = send("tests.run_for", str(tmp_path / "runs"), 0)
        line = old.wait_for("This worker has no task tests.run_for")
        assert task.id in line
        assert ping.delay("meanwhile").get(timeout=SECONDS)["message"] == "meanwhile"
        time.sleep(4)  # it comes back twice, and costs no delivery
        assert task.state == "PENDING"
        assert old.output.count("This worker has no task") == 1

        start()
        old.stop()

        assert task.get(timeout=SECONDS) == "done"
        assert runs(tmp_path / "runs") == 1

    def test_does_not_come_back_at_once(self, start: Start, queue_server: RedisServer) -> None:
        worker = start()
        send("tests.nowhere")
        worker.wait_for("This worker has no task")
        time.sleep(5)
        with queue_server.client() as client:
            client.config_resetstat()
            time.sleep(3)
            notes = client.info("commandstats").get("cmdstat_hset", {"calls": 0})
            assert notes["calls"] <= 2  # as it is taken, and as it is put away

    def test_ends_with_its_expiry(self, start: Start) -> None:
        task = celery_app.send_task("tests.nowhere", expires=2)
        start()
        with pytest.raises(Exception, match="expired"):
            task.get(timeout=SECONDS)
        assert celery_app.backend.get_state(task.id) == "REVOKED"

    def test_can_be_revoked(self, start: Start) -> None:
        worker = start()
        task = send("tests.nowhere")
        worker.wait_for("This worker has no task")
        celery_app.control.revoke(task.id)
        with pytest.raises(Exception, match="revoked"):
            task.get(timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        while redis_client().exists(f"{settings.REDIS_KEY_PREFIX}{NOTES[0]}"):
            assert time.monotonic() < deadline, "the message stays"
            time.sleep(0.1)

    def test_is_a_dead_letter_at_last(self, start: Start) -> None:
        start(TEST_UNKNOWN_FOR_MOST="1")
        task = send("tests.nowhere")
        with pytest.raises(Exception, match="tests.nowhere"):
            task.get(timeout=SECONDS)
        wait_for_letters(1)
        assert dead_ids() == [task.id]
        assert "no worker knew tests.nowhere" in str(redis_client().lindex(DEAD_LETTERS_KEY, 0))


class TestDeadLetter:
    def test_sent_again_is_delivered_as_often_as_at_first(
        self, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "runs"
        start(*PREFORK)
        task = send("tests.die", str(path), "kill")
        wait_for_letters(1)

        assert dead_letters.main([]) == 0
        assert f"{task.id} tests.die args=('{path}', 'kill')" in capsys.readouterr().out
        assert dead_letters.main(["--send", task.id]) == 0
        assert f"sent again: {task.id}" in capsys.readouterr().out

        assert redis_client().llen(DEAD_LETTERS_KEY) == 0
        assert not celery_app.AsyncResult(task.id).ready()
        wait_for_letters(1)
        assert runs(path) == 2 * DELIVERIES

    def test_of_an_unknown_task_is_kept_as_long_as_at_first(self, start: Start) -> None:
        start(TEST_UNKNOWN_FOR_MOST="2")
        send("tests.nowhere")
        wait_for_letters(1)
        began = time.monotonic()
        dead_letters.main(["--send", "all"])
        wait_for_letters(1)
        assert time.monotonic() - began > 2

    def test_is_dropped(self, queue_server: RedisServer, letters: list[str]) -> None:
        assert dead_letters.main(["--drop", letters[0]]) == 0
        assert dead_ids() == letters[1:]
        assert dead_letters.main(["--drop", "all"]) == 0
        assert dead_ids() == []

    def test_of_another_id_is_not_there(
        self, letters: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert dead_letters.main(["--send", "another"]) == 1
        assert capsys.readouterr().out == "no dead letter has the id another\n"
        assert dead_ids() == letters

    @pytest.fixture
    def letters(self, queue_server: RedisServer) -> list[str]:
        """The ids of two dead letters, as a worker stores them, the newest first."""
        message = ["a", "b"]
        for task_id in reversed(message):
            note = [{"headers": {"id": task_id, "task": "tests.die"}}, "", "celery"]
            letter = {"given_up_at": time.time(), "reason": "tired", "message": note}
            redis_client().lpush(DEAD_LETTERS_KEY, json.dumps(letter))
        return message

    def test_the_oldest_of_many_are_dropped(self, start: Start, letters: list[str]) -> None:
        client = redis_client()
        for _ in range(98):
            client.rpush(DEAD_LETTERS_KEY, str(client.lindex(DEAD_LETTERS_KEY, -1)))
        start(TEST_UNKNOWN_FOR_MOST="-1")
        task = send("tests.nowhere")
        with pytest.raises(Exception, match="tests.nowhere"):
            task.get(timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        while task.id not in dead_ids() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(dead_ids()) == 100
        assert dead_ids()[:3] == [task.id, "a", "b"]


def dead_ids() -> list[str]:
    """The tasks that are dead letters, the newest first."""
    stored: Any = redis_client().lrange(DEAD_LETTERS_KEY, 0, -1)
    return [json.loads(letter)["message"][0]["headers"]["id"] for letter in stored]


def wait_for_letters(count: int) -> None:
    """Wait until there are so many dead letters."""
    deadline = time.monotonic() + SECONDS
    while redis_client().llen(DEAD_LETTERS_KEY) != count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_retry_begins_to_count_anew(start: Start, tmp_path: Path) -> None:
    """It is a message of its own, and its task gave its worker back."""
    worker = start(*PREFORK)
    task = send("tests.die_and_retry", str(tmp_path / "runs"))
    assert task.get(timeout=SECONDS) == [0, 1, 2, 0, 1, 2], worker.output


class TestArgumentsOfAnotherRelease:
    """A new sender's task meets an old worker, or the reverse."""

    @pytest.mark.parametrize("name", ["tests.run_for", "tests.die_and_retry"], ids=["", "bound"])
    def test_become_a_dead_letter(self, start: Start, tmp_path: Path, name: str) -> None:
        worker = start()
        task = celery_app.send_task(name, kwargs={"path": str(tmp_path / "runs"), "new": 1})
        with pytest.raises(Exception, match=f"given up after {DELIVERIES} deliveries"):
            task.get(timeout=SECONDS)
        worker.wait_for("unexpected keyword argument 'new'")
        wait_for_letters(1)
        assert not (tmp_path / "runs").exists()


class TestRetryThatCannotBeSent:
    """Celery drops the task, as if its retry were on its way."""

    @pytest.mark.parametrize("pool", [("--pool", "solo"), PREFORK], ids=lambda each: each[1])
    def test_runs_again(
        self, start: Start, queue_server: RedisServer, tmp_path: Path, pool: tuple[str, ...]
    ) -> None:
        worker = start(*pool, **SWEPT_SOON)
        path, until = tmp_path / "runs", tmp_path / "until"
        task = send("tests.retry_once", str(path), str(until), 0)
        wait_for_file(path)
        with queue_server.client() as client:
            client.config_set("maxmemory", 1)
            until.touch()
            worker.wait_for("a rejected task stays in Redis")
            client.config_set("maxmemory", 0)
        assert task.get(timeout=SECONDS) == "done", worker.output
        assert worker.is_running()
        assert runs(path) == 3

    def test_fails_where_it_is_refused(self, start: Start, tmp_path: Path) -> None:
        start()
        (tmp_path / "until").touch()
        task = send("tests.retry_once", str(tmp_path / "runs"), str(tmp_path / "until"), 1e6)
        with pytest.raises(Exception, match="would run it too"):
            task.get(timeout=SECONDS)
        assert runs(tmp_path / "runs") == 1

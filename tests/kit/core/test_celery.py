import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery.signals import before_task_publish
from kombu import Exchange, Queue

from app.core.celery import celery_app, enqueue
from app.core.config import settings
from kit.context import bind_request_id, unbind_request_id
from kit.queue._tasks import ping
from kit.redis._pool import redis_client
from kit.testing._processes import QueueProcess, RedisServer

RESULT_SECONDS = 30


@pytest.fixture
def request_id() -> Iterator[str]:
    """The id of the request that is being served."""
    token = bind_request_id("request-4711")
    yield "request-4711"
    unbind_request_id(token)


@pytest.mark.slow
def test_importing_the_queue_asks_for_no_address_of_redis() -> None:
    code = "import app.tasks; from app.core.celery import celery_app; print(celery_app.configured)"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == "False", answer.stderr


@pytest.mark.slow
def test_a_worker_does_without_the_web_framework() -> None:
    code = (
        "import sys; from app.core.celery import celery_app; "
        "celery_app.loader.import_default_modules(); "
        "print({'fastapi', 'starlette', 'sqladmin', 'alembic', 'jinja2'} & {*sys.modules})"
    )
    environment = os.environ | {"ENABLED_EXTENSIONS": "_example"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == "set()", answer.stderr


def test_core_tasks_are_found_by_themselves() -> None:
    celery_app.loader.import_default_modules()
    names = {name for name in celery_app.tasks if not name.startswith("celery.")}
    module = settings.CELERY_TASKS_MODULE
    assert {f"{module}.ping", f"{module}.heartbeat"} <= names


@pytest.mark.slow
def test_a_worker_does_not_start_with_a_task_that_is_async(tmp_path: Path) -> None:
    (tmp_path / "probe_tasks.py").write_text(
        "from celery import shared_task\n\n\n@shared_task\nasync def fetch():\n    pass\n"
    )
    command = "celery --app app.core.celery:celery_app worker --include probe_tasks"

    answer = subprocess.run(
        [sys.executable, "-m", *command.split()],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert answer.returncode == 1
    assert f"error: {tmp_path}/probe_tasks.py:4: the task probe_tasks.fetch is `async def`" in (
        answer.stderr
    )
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_a_worker_does_not_run_solo_where_prefork_is_asked_for() -> None:
    command = "celery --app app.core.celery:celery_app worker --pool prefork --concurrency 2"

    answer = subprocess.run(
        [sys.executable, "-m", *command.split()],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert answer.returncode == 1
    assert "replaces by solo: write `--pool processes`" in answer.stderr


def test_a_sender_gets_an_id_and_a_state() -> None:
    task = ping.apply_async(("hello",), queue="nobody")
    assert celery_app.AsyncResult(task.id).state == "PENDING"
    assert not celery_app.AsyncResult(task.id).ready()
    redis_client().delete(f"{settings.REDIS_KEY_PREFIX}nobody")


@pytest.mark.parametrize(
    ("queue", "declared"),
    [
        (Queue("plain"), []),
        (Queue("brief", expires=60), ["brief"]),
        (Queue("short", queue_arguments={"x-expires": 60_000}), ["short"]),
        (Queue("bound", Exchange("orders", type="topic"), routing_key="#"), ["bound"]),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_queue_is_declared_where_that_does_something(queue: Queue, declared: list[str]) -> None:
    names: list[str] = []

    def note(declare: list[Queue], **_: object) -> None:  # after the kit's own handler
        names.extend(each.name for each in declare)

    before_task_publish.connect(note)
    ping.apply_async(("hello",), queue=queue)
    before_task_publish.disconnect(note)
    assert names == declared
    assert redis_client().delete(f"{settings.REDIS_KEY_PREFIX}{queue.name}") == 1


@pytest.mark.slow
class TestWorker:
    def test_a_task_runs_and_its_result_is_read_back(self, worker: QueueProcess) -> None:
        task = ping.delay("hello")
        assert task.get(timeout=RESULT_SECONDS)["message"] == "hello"
        assert celery_app.AsyncResult(task.id).state == "SUCCESS"
        assert celery_app.AsyncResult(task.id).ready()

    def test_log_lines_carry_the_task_id(self, worker: QueueProcess) -> None:
        task = ping.delay("in the log")
        line = worker.wait_for("pong: in the log")
        assert f"[{task.id[:8]}] pong" in line

    async def test_the_request_id_travels_from_sender_to_task(
        self, worker: QueueProcess, request_id: str
    ) -> None:
        task = await enqueue(ping, "with an id")
        assert task.get(timeout=RESULT_SECONDS)["request_id"] == request_id
        assert f"[{request_id[:8]}]" in worker.wait_for("pong: with an id")

    def test_a_task_that_no_request_sent_has_no_request_id(self, worker: QueueProcess) -> None:
        assert ping.delay("alone").get(timeout=RESULT_SECONDS)["request_id"] == ""

    def test_what_is_not_json_is_not_even_read(self, worker: QueueProcess) -> None:
        before = len(worker.lines)
        ping.apply_async(("pickled",), serializer="pickle")
        worker.wait_for("Refusing to deserialize", after=before)
        ping.delay("after the pickle").get(timeout=RESULT_SECONDS)
        assert "pong: pickled" not in worker.output

    def test_a_result_that_is_too_large_fails_the_task(self, worker: QueueProcess) -> None:
        # The arguments fit; with what the result adds, it does not.
        task = ping.delay("x" * (settings.CELERY_PAYLOAD_LIMIT - 100))
        with pytest.raises(Exception, match="CELERY_PAYLOAD_LIMIT"):
            task.get(timeout=RESULT_SECONDS)
        assert celery_app.AsyncResult(task.id).state == "FAILURE"

    def test_a_worker_has_three_connections(self, worker: QueueProcess) -> None:
        ping.delay("count").get(timeout=RESULT_SECONDS)
        with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as observer:
            names = [each["name"] for each in observer.client_list()]
        assert sum(name.endswith(f":{worker.pid}") for name in names) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("test_database")
def test_forked_children_use_connections_of_their_own() -> None:
    options = ("--pool", "processes", "--concurrency", "2", "--include", "kit.tests.forked_tasks")
    with QueueProcess("worker", *options, "--queues", "forked") as worker:
        worker.wait_for("ready.")
        sent = [celery_app.send_task("tests.connection_of_child", queue="forked") for _ in range(8)]
        outcomes = {tuple(each.get(timeout=RESULT_SECONDS)) for each in sent}
    children, connections, [parents] = map(set, zip(*outcomes, strict=True))
    assert len(outcomes) == len(children) == len(connections) == 2
    assert parents not in connections


@pytest.mark.slow
def test_a_task_that_ends_while_redis_is_away_keeps_its_result_and_runs_once(
    use_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = use_redis("--appendonly", "yes", "--appendfsync", "always")
    end = tmp_path / "end"
    arguments = ("worker", "--include", "kit.tests.queue_tasks")
    with QueueProcess(*arguments, REDIS_URL=server.url) as worker:
        task = celery_app.send_task("tests.wait_for_file", [str(end)])
        waiting = ping.delay("still there")
        worker.wait_for("tests.wait_for_file")

        server.kill()
        end.touch()
        worker.wait_for("Failed operation _store_result")
        server.start()

        assert task.get(timeout=RESULT_SECONDS) == "seen"
        assert waiting.get(timeout=RESULT_SECONDS)["message"] == "still there"
        received = [line for line in worker.lines if task.id in line and "received" in line]
        assert len(received) == 1

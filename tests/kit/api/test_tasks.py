import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from celery.app.trace import build_tracer
from httpx import AsyncClient

from app.core.celery import celery_app
from app.core.config import settings
from kit.queue._tasks import ping
from kit.redis._pool import redis_client
from kit.testing._processes import QueueProcess, RedisServer


def nested(depth: int) -> list[Any]:
    """Lists within lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.fixture
def stored() -> str:
    """The id of a task whose outcome the test stores itself."""
    return str(uuid.uuid4())


class TestSendPing:
    @pytest.mark.parametrize("body", [{"message": 1}, {"message": "x" * 201}, []])
    async def test_a_wrong_body_is_refused(self, client: AsyncClient, body: object) -> None:
        answer = await client.post("/api/tasks/ping", json=body)
        assert answer.status_code == 422

    async def test_a_busy_redis_is_503(
        self, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool = redis_client().connection_pool
        monkeypatch.setattr(pool, "timeout", 0.1)
        held = [pool.get_connection() for _ in range(settings.REDIS_POOL_SIZE)]

        answer = await client.post("/api/tasks/ping", json={})

        for connection in held:
            pool.release(connection)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0

    async def test_a_full_redis_is_503(
        self, client: AsyncClient, use_redis: Callable[..., RedisServer]
    ) -> None:
        use_redis("--maxmemory", "1")

        answer = await client.post("/api/tasks/ping", json={})

        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0

    async def test_a_redis_that_is_gone_is_503(
        self, client: AsyncClient, use_redis: Callable[..., RedisServer]
    ) -> None:
        use_redis().kill()

        answer = await client.post("/api/tasks/ping", json={})

        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0

    async def test_the_answer_says_where_to_ask(self, client: AsyncClient) -> None:
        answer = await client.post("/api/tasks/ping", json={})
        assert answer.status_code == 202
        task = answer.json()
        assert task["status_url"] == f"/api/tasks/{task['id']}"
        assert answer.headers["Location"] == task["status_url"]


class TestReadTask:
    async def test_what_is_no_id_is_refused(self, client: AsyncClient) -> None:
        assert (await client.get("/api/tasks/not-an-id")).status_code == 422

    async def test_an_unknown_task_is_pending(self, client: AsyncClient, stored: str) -> None:
        answer = await client.get(f"/api/tasks/{stored}")
        assert answer.json() == {
            "id": stored,
            "state": "PENDING",
            "ready": False,
            "result": None,
            "error": None,
        }

    async def test_a_failed_task_tells_its_error(self, client: AsyncClient, stored: str) -> None:
        celery_app.backend.mark_as_failure(stored, ValueError("no such room"))
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert task["state"] == "FAILURE"
        assert task["ready"] is True
        assert task["result"] is None
        assert task["error"] == {"type": "ValueError", "message": "no such room"}

    async def test_progress_of_a_task_that_reports_it(
        self, client: AsyncClient, stored: str
    ) -> None:
        celery_app.backend.store_result(stored, {"rows": 2000, "of": Decimal("1e4")}, "IMPORTING")
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert (task["state"], task["ready"]) == ("IMPORTING", False)
        assert task["result"] == {"rows": 2000, "of": "1E+4"}

    @pytest.mark.parametrize(
        ("state", "meta"),
        [("STARTED", {"hostname": "web-1"}), ("RETRY", ValueError("the database's password"))],
    )
    async def test_what_celery_keeps_before_the_end_is_not_shown(
        self, client: AsyncClient, stored: str, state: str, meta: object
    ) -> None:
        celery_app.backend.store_result(stored, meta, state)
        task = (await client.get(f"/api/tasks/{stored}")).json()
        shown = [task[key] for key in ("state", "ready", "result", "error")]
        assert shown == [state, False, None, None]

    async def test_a_result_that_json_does_not_know_is_given_as_text(
        self, client: AsyncClient, stored: str
    ) -> None:
        celery_app.backend.mark_as_done(stored, {"id": uuid.UUID(int=7)})
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert task["result"] == {"id": "00000000-0000-0000-0000-000000000007"}

    @pytest.mark.parametrize(
        ("outcome", "read"),
        [
            (b"hello", "aGVsbG8="),
            ({"image": [b"\xff\xfe\x00"]}, {"image": ["__4A"]}),
            (Decimal("1.10"), "1.10"),
            ([float("nan"), float("inf"), 0.5], [None, None, 0.5]),
            (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00Z"),
            (10**50, 10**50),
            ((1, None, True), [1, None, True]),
            ({"_sales": 3, "7": "𠮷\0"}, {"_sales": 3, "7": "𠮷\0"}),
            (None, None),
        ],
    )
    async def test_every_kind_of_result_is_read_back(
        self, client: AsyncClient, stored: str, outcome: object, read: object
    ) -> None:
        run_task(stored, lambda: outcome)
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert (task["state"], task["result"]) == ("SUCCESS", read)

    @pytest.mark.parametrize(
        ("outcome", "reason"),
        [
            ({1, 2}, "set is not JSON serializable"),
            ({b"key": 1}, "keys must be str"),
            ("\ud800", "could not be read back"),
            (nested(900), "could not be read back"),
            ({"__type__": "parcel", "__value__": 7}, "could not be read back"),
            (10**5000, "4300 digits"),
        ],
        ids=["set", "bytes as keys", "surrogate", "deep", "marker of kombu's", "huge"],
    )
    async def test_a_result_that_could_not_be_read_back_fails_its_task(
        self, client: AsyncClient, stored: str, outcome: object, reason: str
    ) -> None:
        run_task(stored, lambda: outcome)
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert task["state"] == "FAILURE"
        assert task["error"]["type"] == "EncodeError"
        assert reason in task["error"]["message"]

    @pytest.mark.parametrize(
        ("error", "read"),
        [
            (ValueError(b"\xff"), {"type": "ValueError", "message": "b'\\xff'"}),
            (ValueError("\ud800"), {"type": "ValueError", "message": "?"}),
            (KeyError("room"), {"type": "KeyError", "message": "'room'"}),
        ],
        ids=repr,
    )
    async def test_every_kind_of_error_is_read_back(
        self, client: AsyncClient, stored: str, error: Exception, read: dict[str, str]
    ) -> None:
        celery_app.backend.mark_as_failure(stored, error)
        assert (await client.get(f"/api/tasks/{stored}")).json()["error"] == read

    async def test_an_error_that_cannot_be_made_again_keeps_its_name(
        self, client: AsyncClient, stored: str
    ) -> None:
        class Refused(Exception):  # noqa: N818 (as the owner of a class may call it)
            def __init__(self, *, code: int) -> None:
                super().__init__(f"code {code}")

        run_task(stored, throw, Refused(code=7))
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert task["error"] == {"type": "Refused", "message": "Refused('code 7')"}


def throw(error: Exception) -> None:
    raise error


def run_task(task_id: str, function: Callable[..., object], *arguments: object) -> None:
    """Run a function as a worker runs a task, and store what comes of it."""

    def run() -> object:
        return function(*arguments)

    task: Any = celery_app.task(name=f"tests.{task_id}", shared=False)(run)
    trace: Any = build_tracer(task.name, task, app=celery_app)
    trace(task_id, (), {}, {"id": task_id, "is_eager": False})
    celery_app.tasks.unregister(task.name)


@pytest.mark.slow
async def test_a_task_sent_through_the_api_runs_and_is_read_back(
    client: AsyncClient, worker: QueueProcess
) -> None:
    sent = await client.post(
        "/api/tasks/ping", json={"message": "round trip"}, headers={"X-Request-ID": "trip-1"}
    )
    # Waits until the worker has stored the result.
    ping.AsyncResult(sent.json()["id"]).get(timeout=30)

    task = (await client.get(sent.headers["Location"])).json()

    assert task["state"] == "SUCCESS"
    assert task["ready"] is True
    assert task["result"] == {"message": "round trip", "request_id": "trip-1"}
    assert "[trip-1]" in worker.wait_for("pong: round trip")

import uuid
from collections.abc import Callable

import pytest
from httpx import AsyncClient

from app.core.celery import celery_app
from app.core.config import settings
from kit.queue._tasks import ping
from kit.redis._pool import redis_client
from kit.testing._processes import QueueProcess
from kit.testing._redis_servers import RedisServer


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

    async def test_a_result_that_json_does_not_know_is_given_as_text(
        self, client: AsyncClient, stored: str
    ) -> None:
        celery_app.backend.mark_as_done(stored, {"id": uuid.UUID(int=7)})
        task = (await client.get(f"/api/tasks/{stored}")).json()
        assert task["result"] == {"id": "00000000-0000-0000-0000-000000000007"}


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

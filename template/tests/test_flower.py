import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis

from app.core.config import settings
from app.core.connection_budget import redis_allowance
from tests.queue_processes import QueueProcess
from tests.redis_servers import free_port

pytestmark = pytest.mark.slow

PRODUCTION = {
    "ENVIRONMENT": "production",
    "CORS_ORIGINS": "none",
    "POSTGRES_PASSWORD": "secret",
    "DATABASE_URL": "postgresql://postgres:secret@localhost:5432/postgres",
    "REDIS_URL": settings.REDIS_URL,
}


def test_outside_local_flower_refuses_to_start_without_a_password() -> None:
    with QueueProcess("flower", **PRODUCTION) as flower:
        assert flower.exit_status() == 1
        line = flower.wait_for("error: ")
    assert "FLOWER_PASSWORD is not set and ENVIRONMENT is production" in line
    assert "Traceback" not in flower.output


def test_a_password_that_flower_cannot_compare_is_refused() -> None:
    with QueueProcess("flower", FLOWER_PASSWORD="geheim-für-alle") as flower:
        assert flower.exit_status() == 1
        assert "outside ASCII" in flower.wait_for("error: ")


def test_flower_asks_for_its_login_and_stays_within_its_connections(worker: QueueProcess) -> None:
    port = free_port()
    login = ("operator", "open, sesame: #1%20")
    environment = {
        "FLOWER_PORT": str(port),
        "FLOWER_USERNAME": login[0],
        "FLOWER_PASSWORD": login[1],
    }
    # From a folder without `flowerconfig.py`, where Flower would otherwise start without a login.
    arguments = ("--workdir", "/tmp", "flower")  # noqa: S108 (any folder but the project's)
    with QueueProcess(*arguments, **environment, PYTHONPATH=os.getcwd()) as flower:  # noqa: PTH109
        flower.wait_for("Visit me")
        base = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{base}/workers").status_code == 401
        assert httpx.get(f"{base}/workers", auth=("operator", "wrong")).status_code == 401

        with (
            redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as observer,
            ThreadPoolExecutor(1) as pool,
        ):
            asked = pool.submit(httpx.get, f"{base}/api/workers?refresh=1", auth=login, timeout=30)
            counts = []
            while not asked.done():
                counts.append(connections_of(flower.pid, observer))
        assert any(name.startswith("celery@") for name in asked.result().json())
        assert max(counts) <= redis_allowance(settings, "flower")


def connections_of(pid: int, observer: redis.Redis) -> int:
    return sum(each["name"].endswith(f":{pid}") for each in observer.client_list())

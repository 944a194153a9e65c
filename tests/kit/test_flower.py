import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from secrets import token_urlsafe

import httpx
import pytest

from app.core.config import settings
from kit.connections import redis_allowance
from kit.queue._app import WrongLogins
from kit.queue._tasks import ping
from kit.redis._pool import redis_client
from kit.testing import change_settings, free_port
from kit.testing._processes import QueueProcess, RedisServer
from kit.tests.connection_sampler import ConnectionSampler, most_by_role

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


def test_flower_asks_for_its_login(worker: QueueProcess) -> None:
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
        for page in ("/workers", "/metrics", "/api/workers", "/api/task/types", "/broker"):
            assert httpx.get(f"{base}{page}").status_code == 401, page
        assert httpx.get(f"{base}/healthcheck").status_code == 200  # without it, the image's probe

        answer = httpx.get(f"{base}/api/workers?refresh=1", auth=login, timeout=30)
        assert any(name.startswith("celery@") for name in answer.json())
        assert "flower_events_total" in httpx.get(f"{base}/metrics", auth=login).text
        for page in ("/workers", "/nowhere", "/static/css/flower.css", "/healthcheck"):
            headers = httpx.get(f"{base}{page}", auth=login).headers
            assert settings.security_headers.keys() <= {each.title() for each in headers}, page
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_flower_slows_guesses_and_locks_no_known_browser_out() -> None:
    port = free_port()
    login = ("flower", "the right password")
    environment = {"FLOWER_PORT": str(port), "FLOWER_PASSWORD": login[1]}
    with (
        QueueProcess("flower", **environment) as flower,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as browser,
    ):
        flower.wait_for("Visit me")
        assert browser.get("/workers", auth=login).status_code == 200
        guesses = [
            httpx.get(f"http://127.0.0.1:{port}/api/workers", auth=("flower", f"guess {number}"))
            for number in range(settings.ADMIN_LOGIN_ATTEMPTS + 1)
        ]
        assert [each.status_code for each in guesses[:-1]] == [401] * settings.ADMIN_LOGIN_ATTEMPTS
        assert guesses[-1].status_code == 429
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", auth=login).status_code == 429
        assert browser.get("/metrics", auth=login).status_code == 200
        assert browser.get("/metrics", auth=("flower", "wrong")).status_code == 401


def test_wrong_logins_of_strangers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, settings, ADMIN_LOGIN_WINDOW=60, ADMIN_LOGIN_ATTEMPTS=2)
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(WrongLogins, "MOST", 100)
    failures = WrongLogins()
    for number in range(1_000):
        failures.add("guesser")
        failures.add(f"stranger {number}")
    assert len(failures) == 100
    assert failures.recent("guesser") == [now, now]  # who goes on is not forgotten for others

    now += 61
    assert failures.recent("guesser") == []
    failures.add("somebody else")
    assert [*failures] == ["somebody else"]


@pytest.mark.parametrize(("host", "listens"), [(None, "127.0.0.1"), ("0.0.0.0", "0.0.0.0")])  # noqa: S104
def test_flower_by_hand_listens_on_loopback(host: str | None, listens: str) -> None:
    environment = PRODUCTION | {
        "FLOWER_PASSWORD": "a long password",
        "SECRET_KEY": token_urlsafe(32),
    }
    if host:
        environment["FLOWER_HOST"] = host
    code = "import flowerconfig; print(flowerconfig.address)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == listens, done.stderr


QUESTIONS = ("/broker", "/api/queues/length", "/workers?refresh=1", "/api/workers?refresh=1")
"""Pages for which Flower asks Redis or the workers."""


def test_readers_of_its_pages_share_its_connections(
    use_redis: Callable[..., RedisServer],
) -> None:
    port = free_port()
    allowance = redis_allowance(settings, "flower")
    # One for this test's own sender, one for the sampler.
    server = use_redis("--maxclients", str(allowance + 2))
    redis_client().ping()
    with (
        ConnectionSampler(server) as sampler,
        QueueProcess(
            "flower",
            REDIS_URL=server.url,
            FLOWER_PORT=str(port),
            FLOWER_PASSWORD="",
            FLOWER_UNAUTHENTICATED_API="true",
        ) as flower,
    ):
        flower.wait_for("Visit me")
        for _ in range(3):
            ping.delay("nobody reads this")
        with ThreadPoolExecutor(20) as readers:
            addresses = [f"http://127.0.0.1:{port}{page}" for page in QUESTIONS * 25]
            answers = list(readers.map(partial(httpx.get, timeout=60), addresses))

    assert {answer.status_code for answer in answers} == {200}
    assert answers[1].json() == {"active_queues": [{"name": "celery", "messages": 3}]}
    held = most_by_role(sampler.samples)
    assert held["flower"] <= allowance, held
    assert redis_client().info("stats")["rejected_connections"] == 0, held

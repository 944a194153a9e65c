"""A Redis that gives no connection: other clients have taken all that the plan allows."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlmodel import Session

from app.core.config import settings
from kit.security import ensure_admin
from kit.testing._databases import database_engine
from kit.testing._processes import RedisServer, own_database
from kit.tests.connection_hogs import ConnectionHogs
from kit.tests.load_service import SYNC_ANSWER, SYNC_PING
from kit.tests.watched_service import PING_PATH, START_SECONDS, WatchedService

logger = logging.getLogger(__name__)

CONNECTIONS = 30
"""What the free plan gives."""
REFUSED_SECONDS = 3
"""Within which one that needs Redis is answered; one that waited for its turn would take five."""
RECOVERY_SECONDS = 20
"""Within which every process works again; a worker's pauses grow with the outage, to 30 s."""
UNHARMED_SECONDS = 3
"""Within which every other one is; one that waited for Redis would take five."""
SLACK_SECONDS = 1
"""For a machine that is busy."""
ADMINISTRATOR = {"username": "tester", "password": "correct horse battery staple"}

pytestmark = [pytest.mark.slow, pytest.mark.load]


@dataclass(frozen=True)
class Scene:
    """The service, its Redis, and the other clients of that."""

    server: RedisServer
    hogs: ConnectionHogs
    service: WatchedService


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Every process was started while the others had every connection, and still have."""
    with ExitStack() as stack:
        enter = stack.enter_context
        server = enter(RedisServer(tmp_path, "--maxclients", str(CONNECTIONS)))
        hogs = enter(ConnectionHogs(server))
        assert hogs.take_all() == CONNECTIONS
        environment = enter(own_database())
        api = "kit.tests.load_service"
        service = enter(WatchedService(server.url, tmp_path, environment, api_module=api))
        with Session(database_engine(environment["POSTGRES_DB"])) as session:
            ensure_admin(session, *ADMINISTRATOR.values())
            session.commit()
        yield Scene(server, hogs, service)


def test_other_clients_take_every_connection_and_give_them_back(scene: Scene) -> None:
    service = scene.service
    for process in (service.worker, service.beat, service.flower):
        process.wait_for("max number of clients")
        assert process.is_running()
    check_refused(service)
    check_unharmed(service)

    scene.hogs.give_back()
    logger.info("started after %s s", service.seconds_until_works(limit=START_SECONDS))

    scene.hogs.take_all()
    check_refused(service)
    check_unharmed(service)
    time.sleep(5)
    scene.hogs.give_back()
    logger.info("works again after %s s", service.seconds_until_works(limit=RECOVERY_SECONDS))


def check_refused(service: WatchedService) -> None:
    """What needs Redis is answered with 503, one request at once, many together in time."""
    sent = {"message": "refused"}
    for method, path in (
        ("POST", PING_PATH),
        ("POST", SYNC_PING),
        ("GET", f"/api/tasks/{uuid4()}"),
    ):
        answer = service.http.request(method, path, json=sent)
        check_unavailable(answer)
        assert answer.elapsed.total_seconds() < REFUSED_SECONDS, path
    assert service.redis_health()["reason"] == "unreachable"

    # They wait for their turn first.
    longest_seconds = settings.REDIS_POOL_TIMEOUT + REFUSED_SECONDS + SLACK_SECONDS
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(service.send, ["refused"] * 20))
    for answer in answers:
        check_unavailable(answer)
        assert answer.elapsed.total_seconds() < longest_seconds


def check_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0


def check_unharmed(service: WatchedService) -> None:
    """What needs no Redis is answered as ever: pages, the admin and its log-in, the database."""
    http = service.http
    log_in = http.post("/admin/login", data=ADMINISTRATOR)
    assert log_in.status_code == 302, log_in.text
    assert log_in.elapsed.total_seconds() < UNHARMED_SECONDS
    for path in ("/health/live", "/", SYNC_ANSWER, "/admin/admin-user/list"):
        answer = http.get(path)
        assert answer.status_code == 200, path
        assert answer.elapsed.total_seconds() < UNHARMED_SECONDS, path

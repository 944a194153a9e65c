import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redbeat.schedulers import RedBeatSchedulerEntry  # type: ignore[import-untyped]

from app.core.celery import celery_app
from app.core.config import settings
from app.tasks.schedules import SCHEDULES
from kit.process import this_process
from kit.queue import _tasks
from kit.queue._tasks import Scheduler, heartbeat
from kit.redis import _pool as redis_pool
from kit.testing._processes import QueueProcess, RedisServer
from kit.tests.heartbeats import EVERY_SECOND, Elsewhere, run_heartbeat_every_second
from kit.tests.watched_service import at_start


def key(name: str) -> str:
    return f"{settings.REDIS_KEY_PREFIX}redbeat:{name}"


class TestStoredSchedule:
    """What beat's start makes of the schedule that an earlier start has stored."""

    @pytest.fixture(autouse=True)
    def role(self) -> Iterator[None]:
        """Beat's role ends with the test."""
        before = this_process.role
        yield
        this_process.become(before)
        celery_app.conf.beat_schedule.clear()
        client = redis_pool.redis_client()
        for stored in client.scan_iter(f"{settings.REDIS_KEY_PREFIX}redbeat:*"):
            client.delete(stored)
        client.connection_pool.disconnect()  # they bear beat's name

    def start_beat(self) -> None:
        celery_app.conf.beat_schedule.clear()
        Scheduler(app=celery_app)

    def test_an_entry_that_left_the_code_leaves_redis(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = redis_pool.redis_client()
        with monkeypatch.context() as earlier:
            earlier.setitem(SCHEDULES, "gone", {"task": heartbeat.name, "schedule": 60})
            self.start_beat()
            assert client.exists(key("service.gone"))

        self.start_beat()

        assert client.exists(key("core.heartbeat"))
        assert not client.exists(key("service.gone"))
        assert client.zscore(key(":schedule"), key("service.gone")) is None

    def test_a_changed_entry_keeps_the_time_of_its_last_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.start_beat()
        entry = RedBeatSchedulerEntry.from_key(key("core.heartbeat"), app=celery_app)
        entry.reschedule(last_run_at=entry.last_run_at - timedelta(seconds=30))
        monkeypatch.setitem(_tasks.SCHEDULES["heartbeat"], "schedule", 3600)

        self.start_beat()

        changed = RedBeatSchedulerEntry.from_key(key("core.heartbeat"), app=celery_app)
        assert changed.schedule.run_every == timedelta(hours=1)
        assert changed.last_run_at == entry.last_run_at

    def test_a_lost_lock_is_taken_again(self) -> None:
        """As Redis loses it when it restarts without persistence."""
        celery_app.conf.beat_schedule.clear()
        beat = Scheduler(app=celery_app)
        beat.tick()
        assert beat.lock.owned()
        redis_pool.redis_client().delete(key(":lock"))

        assert beat.tick() == 0
        beat.tick()

        assert beat.lock.owned()
        beat.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own that keeps nothing over a restart."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.mark.slow
def test_the_schedule_fires_on_after_beat_is_restarted(server: RedisServer) -> None:
    environment = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": ""}
    with QueueProcess("beat", "--max-interval", "1", **environment) as beat:
        beat.wait_for("Acquired lock")
        run_heartbeat_every_second(server)
        with server.client() as client:
            assert client.brpop("celery", timeout=20), "nothing was sent"
    with server.client() as client:
        stopped = RedBeatSchedulerEntry.from_key(f"redbeat:{EVERY_SECOND}", Elsewhere(client))
        assert not client.exists("redbeat::lock")
        client.delete("celery")

    with (
        QueueProcess("beat", "--max-interval", "1", **environment) as beat,
        server.client() as client,
    ):
        beat.wait_for("Acquired lock")
        assert client.brpop("celery", timeout=20), "nothing was sent after the restart"

    with server.client() as client:
        restarted = RedBeatSchedulerEntry.from_key(f"redbeat:{EVERY_SECOND}", Elsewhere(client))
    assert restarted.last_run_at > stopped.last_run_at
    assert restarted.total_run_count > stopped.total_run_count


SIGNAL_AT_THE_POOL = """
import os, pathlib, signal
from kit.redis._pool import FairQueue

put = FairQueue._put

def put_and_end(queue, item):
    put(queue, item)
    if pathlib.Path({flag!r}).exists():
        pathlib.Path({flag!r}).unlink()
        os.kill(os.getpid(), signal.SIGTERM)

FairQueue._put = put_and_end
"""


@pytest.mark.slow
def test_beat_ends_when_told_while_it_gives_a_connection_back(
    server: RedisServer, tmp_path: Path
) -> None:
    flag = tmp_path / "now"
    environment = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": ""}
    environment |= at_start(tmp_path, SIGNAL_AT_THE_POOL.format(flag=str(flag)))
    with QueueProcess("beat", "--max-interval", "1", **environment) as beat:
        beat.wait_for("Acquired lock")
        flag.touch()
        assert beat.exit_status() == 0
    with server.client() as client:
        assert not client.exists("redbeat::lock")


@pytest.mark.slow
def test_a_beat_that_waits_for_redis_starts_when_it_comes_and_ends_when_told(
    server: RedisServer,
) -> None:
    server.kill()
    environment = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": ""}
    with (
        QueueProcess("beat", "--max-interval", "1", **environment) as waiting,
        QueueProcess("beat", "--max-interval", "1", **environment) as told,
    ):
        for beat in (waiting, told):
            beat.wait_for("Redis is lost")
        os.kill(told.pid, signal.SIGTERM)
        assert told.exit_status() == 0
        server.start()
        waiting.wait_for("Acquired lock")
        deadline = time.monotonic() + 10  # what follows the line takes a moment
        with server.client() as client:
            while not client.exists("redbeat:core.heartbeat"):
                assert time.monotonic() < deadline, "the schedule was not written"
                time.sleep(0.02)
        assert "lost its data" not in waiting.output


@pytest.mark.slow
def test_a_broken_schedule_ends_beat_with_one_clear_line(tmp_path: Path) -> None:
    code = """
from kit.queue import _tasks
_tasks.SCHEDULES["heartbeat"]["task"] = "app.tasks.nothing"
"""
    with QueueProcess("beat", **at_start(tmp_path, code)) as beat:
        assert beat.exit_status() == 1
        line = beat.wait_for("error: ")
    assert "kit/queue/_tasks.py: entry 'heartbeat' names the task" in line
    assert "Traceback" not in beat.output

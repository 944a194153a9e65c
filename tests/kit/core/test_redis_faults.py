"""What is left of Redis's faults, and of those of the processes around it, with real ones."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from app.core.celery import celery_app
from app.core.config import settings
from kit.queue._app import BEAT_LOCK_SECONDS, BEAT_LOOP_SECONDS, RESTORE_INTERVAL
from kit.queue._tasks import ping
from kit.redis._pool import SOCKET_TIMEOUT
from kit.redis._transport import WAITING_CHECK_INTERVAL
from kit.testing._processes import QueueProcess, RedisServer, free_port
from kit.tests.devservices.project import wait_until
from kit.tests.faulty_link import FaultyLink
from kit.tests.watched_service import START_SECONDS, Senders, WatchedService, tick_each_second

pytestmark = [pytest.mark.slow, pytest.mark.load]

KEEP_EVERY_WRITE = ("--appendonly", "yes", "--appendfsync", "always")
OUTAGE_SECONDS = 5
NOTICE_SECONDS = 3.5
"""Within which `/health/ready` tells of an outage: a check's timeout, and its result's age."""
SLACK_SECONDS = 5
"""For a machine that is busy."""

VISIBILITY_SECONDS = 8
SHORT_VISIBILITY = {
    "CELERY_VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS),
    "CELERY_TASK_MAX_SECONDS": str(VISIBILITY_SECONDS - 1),
}
REDELIVERY_SECONDS = VISIBILITY_SECONDS + RESTORE_INTERVAL
"""Longest time from a task's first start to its second, when its worker was lost."""

EVENTS_ENABLE_SECONDS = 6
"""Within which Flower asks workers for events again."""
CHILD_CHECK_SECONDS = 5
"""How often Celery looks whether a worker's children are alive."""
GRACE_SECONDS = 60
"""What docker-compose.yml gives a worker to end."""
NOTICE_WAITING_SECONDS = 1 + 2 * WAITING_CHECK_INTERVAL + SLACK_SECONDS
"""Longest time until a worker misses an answer to its waiting."""
NOTICE_SUBSCRIPTION_SECONDS = 4 * WAITING_CHECK_INTERVAL + SLACK_SECONDS
"""Longest time until a subscription is found to be dead: two tests without an answer."""

logger = logging.getLogger(__name__)


@pytest.fixture
def environment(test_database: str) -> dict[str, str]:
    """Settings of processes that share this process's keys."""
    return {"REDIS_KEY_PREFIX": settings.REDIS_KEY_PREFIX, **SHORT_VISIBILITY}


def test_redis_is_killed_and_comes_back_while_tasks_flow(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """With a Redis that keeps every write, each task that was accepted runs."""
    with (
        RedisServer(tmp_path, *KEEP_EVERY_WRITE) as server,
        WatchedService(server.url, tmp_path, environment) as service,
    ):
        service.seconds_until_works(limit=START_SECONDS)
        with Senders(service, count=4) as senders:
            time.sleep(1)
            server.kill()
            check_outage(service, reason="unreachable")
            server.start()
            logger.info("works again after %s", service.seconds_until_works(limit=15))
            time.sleep(1)
        accepted = set(senders.accepted)
        wait_until(lambda: accepted <= service.runs().keys(), seconds=REDELIVERY_SECONDS + 20)
        runs = service.runs()

    twice = sum(runs[message] > 1 for message in accepted)
    logger.info("%d tasks accepted, %d ran twice", len(accepted), twice)
    # Those that were under way from a sender at the moment of the kill.
    assert twice <= senders.count
    assert {answer.status_code for answer in senders.refusals} == {503}
    assert senders.slowest_seconds < SLACK_SECONDS


def check_outage(service: WatchedService, *, reason: str) -> None:
    """Redis has just gone: the API says so soon, and for as long as it is away."""
    began = time.monotonic()
    wait_until(lambda: service.redis_health()["state"] == "down", seconds=NOTICE_SECONDS)
    time.sleep(OUTAGE_SECONDS - (time.monotonic() - began))
    assert service.redis_health()["reason"] == reason
    assert service.http.get("/health/live").status_code == 200


def test_redis_comes_back_with_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    with (
        RedisServer(tmp_path) as server,
        WatchedService(server.url, tmp_path, environment) as service,
    ):
        service.seconds_until_works(limit=START_SECONDS)

        server.kill()
        check_outage(service, reason="unreachable")
        server.start()

        # Beat sends again what its schedule says, which was lost too.
        logger.info("works again after %s", service.seconds_until_works(limit=15))
        service.beat.wait_for("Redis has lost its data: waiting tasks and the times")
        everyone = (service.worker, service.beat, service.flower)
        assert all(process.is_running() for process in everyone)


def test_redis_is_a_replica_for_a_while(tmp_path: Path, environment: dict[str, str]) -> None:
    """As the one that fails over to another is, for processes that keep their connections to it."""
    with (
        RedisServer(tmp_path) as server,
        WatchedService(server.url, tmp_path, environment) as service,
        server.client() as client,
    ):
        service.seconds_until_works(limit=START_SECONDS)
        client.replicaof("127.0.0.1", "1")
        time.sleep(OUTAGE_SECONDS)
        answer = service.send("refused")
        assert answer.status_code == 503, answer.text
        client.replicaof("NO", "ONE")
        logger.info("works again after %s", service.seconds_until_works(limit=15))


def test_redis_refuses_a_command_for_a_while(use_redis: Callable[..., RedisServer]) -> None:
    """As it does by its access list: a worker asks ever less often, and ends when it is stopped."""
    server = use_redis()
    with QueueProcess("worker", REDIS_URL=server.url) as worker, server.client() as client:
        worker.wait_for("ready.")
        client.execute_command("ACL", "SETUSER", "default", "-blmove")
        time.sleep(8)
        assert 2 <= worker.output.count("NoPermissionError") <= 5, worker.output

        client.execute_command("ACL", "SETUSER", "default", "+blmove")
        ping.delay("allowed again")
        worker.wait_for("pong: allowed again", seconds=15)

        client.execute_command("ACL", "SETUSER", "default", "-blmove")
        time.sleep(8)
        began = time.monotonic()
        worker.stop()
        assert time.monotonic() - began < SLACK_SECONDS


def test_without_redis_remote_control_gives_up_and_flower_ends(
    use_redis: Callable[..., RedisServer],
) -> None:
    server = use_redis()
    environment = {"REDIS_URL": server.url, "FLOWER_PORT": str(free_port())}
    with QueueProcess("flower", **environment) as flower:
        flower.wait_for("Connected to redis")
        time.sleep(EVENTS_ENABLE_SECONDS)  # the connections were used
        celery_app.control.revoke("another task")
        server.kill()
        flower.wait_for("Redis is lost")
        time.sleep(EVENTS_ENABLE_SECONDS)  # meanwhile it tells workers to send events
        began = time.monotonic()
        with pytest.raises(OperationalError):
            celery_app.control.revoke("a task")
        assert time.monotonic() - began < SLACK_SECONDS
        os.kill(flower.pid, signal.SIGTERM)
        flower.exit_status()
        assert time.monotonic() - began < 2 * SLACK_SECONDS


class TestDeadLink:
    """Packets vanish and nobody is told, as when a firewall forgets its connections."""

    def test_every_process_notices_and_connects_again(
        self, use_redis: Callable[..., RedisServer], tmp_path: Path, environment: dict[str, str]
    ) -> None:
        server = use_redis()
        with (
            FaultyLink(server.port) as link,
            WatchedService(link.url, tmp_path, environment) as service,
        ):
            service.seconds_until_works(limit=START_SECONDS)
            link.cut()
            # By another link. To kombu's own worker Redis would give the first of them.
            sent = {f"after the cut {number}" for number in range(5)}
            for message in sorted(sent):
                ping.delay(message)
            check_outage(service, reason="timeout")

            link.mend()
            seconds = service.seconds_until_works(limit=NOTICE_SUBSCRIPTION_SECONDS)
            logger.info("works again after %s s", seconds)
            wait_until(lambda: answers_to_inspect(server), seconds=NOTICE_SUBSCRIPTION_SECONDS)

            assert seconds["api"] < SOCKET_TIMEOUT + SLACK_SECONDS
            assert seconds["ready"] < 2 * SOCKET_TIMEOUT
            assert seconds["worker"] < NOTICE_WAITING_SECONDS
            assert seconds["beat"] < BEAT_LOCK_SECONDS + BEAT_LOOP_SECONDS
            assert sent <= service.runs().keys()

    @pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "with a task"])
    def test_a_worker_that_is_stopped_ends_within_its_grace_period(
        self, use_redis: Callable[..., RedisServer], tmp_path: Path, is_busy: bool
    ) -> None:
        starts, end = tmp_path / "starts", tmp_path / "end"
        arguments = ("worker", "--task-events", "--include", "kit.tests.queue_tasks")
        server = use_redis()
        with (
            FaultyLink(server.port) as link,
            QueueProcess(*arguments, REDIS_URL=link.url) as worker,
        ):
            worker.wait_for("ready.")
            if is_busy:
                celery_app.send_task("tests.note_start_and_wait", [str(starts), str(end)])
                wait_until(lambda: starts_of(starts) == 1, seconds=START_SECONDS)
            link.cut()
            if not is_busy:
                time.sleep(5)  # for a heartbeat, which is sent every other second
            os.kill(worker.pid, signal.SIGTERM)
            began = time.monotonic()
            end.touch()
            wait_until(lambda: not worker.is_running(), seconds=GRACE_SECONDS - 3 * SLACK_SECONDS)
            logger.info("ended after %.1f s", time.monotonic() - began)
            assert unacknowledged(server) == is_busy  # it is redelivered

    def test_a_task_that_ends_meanwhile_runs_once_and_the_worker_goes_on(
        self, use_redis: Callable[..., RedisServer], tmp_path: Path
    ) -> None:
        starts, end = tmp_path / "starts", tmp_path / "end"
        server = use_redis()
        with (
            FaultyLink(server.port) as link,
            QueueProcess(
                "worker", "--include", "kit.tests.queue_tasks", REDIS_URL=link.url
            ) as worker,
        ):
            worker.wait_for("ready.")
            arguments = [str(starts), str(end)]
            celery_app.send_task("tests.note_start_and_wait", arguments, ignore_result=True)
            wait_until(lambda: starts_of(starts) == 1, seconds=START_SECONDS)

            link.cut()
            end.touch()
            time.sleep(OUTAGE_SECONDS)
            link.mend()
            ping.delay("after it")

            worker.wait_for("cannot acknowledge", seconds=SOCKET_TIMEOUT + SLACK_SECONDS)
            worker.wait_for("pong: after it", seconds=NOTICE_WAITING_SECONDS)
            wait_until(lambda: unacknowledged(server) == 0, seconds=SLACK_SECONDS)
            assert starts_of(starts) == 1


def unacknowledged(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.hlen(f"{settings.REDIS_KEY_PREFIX}unacked"))


def answers_to_inspect(server: RedisServer) -> bool:
    """Whether a worker hears remote control, whose commands come over a subscription."""
    with QueueProcess("inspect", "ping", REDIS_URL=server.url) as command:
        return command.exit_status() == 0


class TestLostWorker:
    """A task that notes each of its starts, with the process, and ends when it is told to."""

    @pytest.fixture
    def starts(self, tmp_path: Path) -> Path:
        """Where it notes them: outside of Redis."""
        return tmp_path / "starts"

    @pytest.fixture
    def end(self, tmp_path: Path) -> Path:
        """The file that tells it to end."""
        return tmp_path / "end"

    @pytest.fixture
    def server(self, use_redis: Callable[..., RedisServer]) -> RedisServer:
        """A Redis of the test's own."""
        return use_redis()

    @pytest.fixture
    def start_worker(self, server: RedisServer) -> Iterator[Callable[..., QueueProcess]]:
        """Starts a worker on it, which is up."""
        with ExitStack() as stack:

            def start(name: str, *arguments: str) -> QueueProcess:
                arguments = ("-n", name, "--include", "kit.tests.queue_tasks", *arguments)
                environment = {"REDIS_URL": server.url, **SHORT_VISIBILITY}
                worker = QueueProcess("worker", *arguments, **environment)
                stack.enter_context(worker)
                worker.wait_for("ready.")
                return worker

            yield start

    def test_that_was_killed_has_its_task_run_by_another_after_the_visibility_timeout(
        self, start_worker: Callable[..., QueueProcess], starts: Path, end: Path
    ) -> None:
        workers = [start_worker("first"), start_worker("second")]
        task = celery_app.send_task("tests.note_start_and_wait", [str(starts), str(end)])
        wait_until(lambda: starts_of(starts) == 1, seconds=START_SECONDS)
        began = time.monotonic()
        pid = int(starts.read_text())

        (killed,) = (worker for worker in workers if worker.pid == pid)
        killed.kill()

        wait_until(lambda: starts_of(starts) == 2, seconds=REDELIVERY_SECONDS + SLACK_SECONDS)
        seconds = time.monotonic() - began
        logger.info("works again after %s s", seconds)
        assert seconds > VISIBILITY_SECONDS - 1
        end.touch()
        assert task.get(timeout=START_SECONDS) == "seen"
        assert starts_of(starts) == 2

    def test_whose_child_was_killed_has_its_task_run_by_the_next_child_soon(
        self, start_worker: Callable[..., QueueProcess], starts: Path, end: Path
    ) -> None:
        worker = start_worker("parent", "--pool", "processes", "--concurrency", "1")
        task = celery_app.send_task("tests.note_start_and_wait", [str(starts), str(end)])
        wait_until(lambda: starts_of(starts) == 1, seconds=START_SECONDS)
        child = int(starts.read_text())
        assert child != worker.pid

        os.kill(child, signal.SIGKILL)
        began = time.monotonic()

        wait_until(lambda: starts_of(starts) == 2, seconds=CHILD_CHECK_SECONDS + SLACK_SECONDS)
        logger.info("runs again after %.1f s", time.monotonic() - began)
        end.touch()
        assert task.get(timeout=START_SECONDS) == "seen"
        assert starts_of(starts) == 2

    def test_whose_pool_is_busy_connects_again_and_runs_what_it_could_not_take(
        self, server: RedisServer
    ) -> None:
        arguments = (
            "--pool",
            "threads",
            "--concurrency",
            "3",
            "--include",
            "kit.tests.queue_tasks",
        )
        environment = {"REDIS_URL": server.url, "REDIS_POOL_TIMEOUT": "0.3"}
        with QueueProcess("worker", *arguments, **environment) as worker:
            worker.wait_for("ready.")
            for _ in range(settings.REDIS_POOL_SIZE):
                celery_app.send_task("tests.hold_redis_connection", [2])
            wait_until(
                lambda: worker.output.count("received") == settings.REDIS_POOL_SIZE,
                seconds=START_SECONDS,
            )

            ping.delay("could not be taken")

            worker.wait_for("RedisPoolBusyError")
            worker.wait_for("pong: could not be taken")
            assert worker.is_running()


def starts_of(starts: Path) -> int:
    return len(starts.read_text().splitlines()) if starts.exists() else 0


class TestTwoBeats:
    """One has the lock and sends each second, the other waits."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        """A Redis of the test's own, on which nobody works tasks off."""
        with RedisServer(tmp_path) as server:
            yield server

    @pytest.fixture
    def beats(
        self, server: RedisServer, tmp_path: Path
    ) -> Iterator[tuple[QueueProcess, QueueProcess]]:
        """The one with the lock and the one without."""
        environment = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": ""} | tick_each_second(tmp_path)
        with QueueProcess("beat", **environment) as leader:
            leader.wait_for("Acquired lock")
            with QueueProcess("beat", **environment) as standby:
                standby.wait_for("Waiting for the lock")
                yield leader, standby

    def test_the_lock_passes_on_when_its_holder_is_killed_and_nothing_is_sent_twice(
        self, server: RedisServer, beats: tuple[QueueProcess, QueueProcess]
    ) -> None:
        leader, standby = beats
        time.sleep(BEAT_LOOP_SECONDS + 1)  # the standby has asked for the lock once more

        leader.kill()
        killed = time.monotonic()
        assert sends(standby) == 0
        standby.wait_for("Acquired lock", seconds=BEAT_LOCK_SECONDS + BEAT_LOOP_SECONDS + 1)
        logger.info("the lock passed on after %.1f s", time.monotonic() - killed)
        assert time.monotonic() - killed < 30

        wait_until(lambda: sends(standby) >= 3, seconds=SLACK_SECONDS)
        standby.stop()
        with server.client() as client:
            sent = client.llen("celery")
        # The kill may have come between the line in the log and the sending.
        assert sends(leader) + sends(standby) - sent in (0, 1)

    def test_the_one_that_gets_the_lock_writes_a_lost_schedule_again(
        self, server: RedisServer, beats: tuple[QueueProcess, QueueProcess]
    ) -> None:
        """Which is not the one that had it: that one stands still, as a paused machine does."""
        leader, standby = beats
        sent = sends(leader) + 1
        wait_until(lambda: sends(leader) == sent, seconds=SLACK_SECONDS)
        time.sleep(0.2)  # it is between two of them
        os.kill(leader.pid, signal.SIGSTOP)
        lines = len(leader.lines)
        with server.client() as client:
            client.flushall()

        standby.wait_for("Redis has lost its data")
        wait_until(lambda: sends(standby) >= 2, seconds=SLACK_SECONDS)

        os.kill(leader.pid, signal.SIGCONT)
        leader.wait_for("Waiting for the lock", after=lines)
        assert sends(leader) == sent


def sends(beat: QueueProcess) -> int:
    return beat.output.count("Sending due task")

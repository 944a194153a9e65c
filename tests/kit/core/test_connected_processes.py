"""Scaling beyond what the settings say, on real servers with a limit of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from app.core.config import BASE_DIR, StartupError, settings
from kit.connections import redis_clients, refuse_more_than_redis_gives
from kit.process import client_name, parse_process_name, this_process
from kit.redis._pool import redis_client
from kit.testing import change_settings
from kit.testing._processes import QueueProcess, RedisServer


def name(role: str, pid: int, *, service: str | None = None) -> str:
    own, _, _ = client_name(settings, "api").partition(":")
    return f"{service or own}:{role}@elsewhere:{pid}"


def test_connections_are_gathered_by_process(use_redis: Callable[..., RedisServer]) -> None:
    server = use_redis()
    names = [name("worker", 1), name("api", 2), name("worker", 1), "", "redis-cli"]
    with ExitStack() as stack:
        for each in names:
            stack.enter_context(server.client(client_name=each)).ping()
        found = redis_clients(redis_client())
    assert found
    [first, last] = found[parse_process_name(name("worker", 1))]
    [api] = found[parse_process_name(name("api", 2))]
    assert first < api < last
    assert len(found[None]) == 2


class TestRefusal:
    """This process's start, beside connections that carry the names of others."""

    @pytest.fixture(autouse=True)
    def a_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(this_process, "role", "worker")

    @pytest.fixture
    def start_beside(self, use_redis: Callable[..., RedisServer]) -> Iterator[Callable[..., None]]:
        """Starts this worker on a server with the connections of others and a limit."""
        with ExitStack() as stack:

            def start(*names: str, limit: int, children: int = 0) -> None:
                server = use_redis("--maxclients", str(limit))
                for each in names:
                    stack.enter_context(server.client(client_name=each)).ping()
                # The pool of `use_redis` is a command's; a real worker has said what it is before.
                pool = redis_client().connection_pool
                pool.connection_kwargs["client_name"] = client_name(settings, "worker")
                refuse_more_than_redis_gives(children=children)

            yield start

    def test_there_is_room(self, start_beside: Callable[..., None]) -> None:
        start_beside(name("api", 1), name("worker", 2), limit=11)

    def test_there_is_no_room(self, start_beside: Callable[..., None]) -> None:
        with pytest.raises(StartupError) as caught:
            start_beside(name("api", 1), name("worker", 2), limit=10)
        assert "1 API x 2 + 2 worker x 4 + 1 for commands = 11 of" in caught.value.message
        assert "of the server's maxclients 10" in caught.value.message

    def test_the_settings_limit_counts_where_it_is_lower(
        self, start_beside: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, REDIS_CONNECTION_LIMIT=8)
        with pytest.raises(StartupError, match="= 9 of REDIS_CONNECTION_LIMIT 8"):
            start_beside(name("worker", 2), limit=100)

    def test_its_own_children_count(self, start_beside: Callable[..., None]) -> None:
        with pytest.raises(StartupError, match=r"1 API x 2 \+ 1 worker x 10 .* = 13 of"):
            start_beside(name("api", 1), limit=12, children=3)

    def test_the_children_of_others_count(self, start_beside: Callable[..., None]) -> None:
        children = [name("worker-child", pid) for pid in (3, 4)]
        with pytest.raises(StartupError, match=r"2 child of a worker x 2 .* = 13 of"):
            start_beside(name("worker", 2), *children, limit=12)

    def test_children_that_the_settings_know_are_counted_once(
        self, start_beside: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, CELERY_WORKER_CHILDREN=2)
        children = [name("worker-child", pid) for pid in (3, 4)]
        start_beside(name("worker", 2), *children, limit=13)

    def test_another_service_counts_with_what_it_holds(
        self, start_beside: Callable[..., None]
    ) -> None:
        others = [name("worker", 2, service="billing")] * 3
        with pytest.raises(StartupError, match=r"1 worker x 4 \+ 1 other service x 3 .* = 8 of"):
            start_beside(*others, limit=7)

    def test_two_containers_of_one_name_are_two(self, start_beside: Callable[..., None]) -> None:
        with pytest.raises(StartupError, match=r"2 API x 2 \+ 1 worker x 4 .* = 9 of"):
            start_beside(*[name("api", 1)] * 3, limit=8)

    def test_commands_and_strangers_come_and_go(self, start_beside: Callable[..., None]) -> None:
        start_beside(name("command", 1), "redis-cli", limit=6)

    def test_where_clients_may_not_be_listed_nothing_is_refused(
        self, start_beside: Callable[..., None], use_redis: Callable[..., RedisServer]
    ) -> None:
        with pytest.raises(StartupError):
            start_beside(name("worker", 2), limit=8)
        redis_client().acl_setuser("default", enabled=True, commands=["-client|list"])

        refuse_more_than_redis_gives()

        with pytest.raises(redis.ResponseError):
            redis_client().client_list()

    def test_where_redis_is_gone_nothing_is_refused(
        self, start_beside: Callable[..., None], use_redis: Callable[..., RedisServer]
    ) -> None:
        use_redis().kill()
        refuse_more_than_redis_gives()


@pytest.mark.slow
class TestProcesses:
    def test_of_four_workers_at_the_same_moment_two_find_room(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, "--maxclients", "12") as server, ExitStack() as stack:
            environment = {"REDIS_URL": server.url, "CELERY_WORKERS": "4"}
            workers = [
                stack.enter_context(QueueProcess("worker", "-n", f"w{number}", **environment))
                for number in range(4)
            ]
            running = refused = 0
            for worker in workers:
                line = worker.wait_for("ready.", "error: ")
                running += line.endswith("ready.")
                refused += "12" in line and "of the server's maxclients 12" in line
        assert (running, refused) == (2, 2)

    def test_a_worker_that_finds_no_slot_waits_and_starts(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, "--maxclients", "6") as server:
            hogs = [server.client() for _ in range(6)]
            for hog in hogs:
                hog.ping()
            with QueueProcess("worker", REDIS_URL=server.url) as worker:
                worker.wait_for("max number of clients")
                assert worker.is_running()
                for hog in hogs:
                    hog.close()
                worker.wait_for("ready.")

    @pytest.mark.parametrize(("workers", "status"), [("1", 0), ("2", 1)])
    @pytest.mark.usefixtures("test_database")
    def test_an_api_is_checked_with_all_its_processes(
        self, tmp_path: Path, workers: str, status: int
    ) -> None:
        """Before the first: a supervisor would start one that is refused again and again."""
        with RedisServer(tmp_path, "--maxclients", "12") as server, ExitStack() as stack:
            for pid in (1, 2):
                stack.enter_context(server.client(client_name=name("worker", pid))).ping()
            result = subprocess.run(
                [sys.executable, "-m", "kit.commands.serve", "--check"],
                cwd=BASE_DIR,
                env=os.environ | {"REDIS_URL": server.url, "API_WORKERS": workers},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        assert result.returncode == status, result.stderr
        assert ("2 worker x 4 + 2 API x 2 + 1 for commands = 13" in result.stderr) is bool(status)
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize("role", ["beat", "flower"])
    def test_beat_and_flower_are_refused_too(self, tmp_path: Path, role: str) -> None:
        with RedisServer(tmp_path, "--maxclients", "6") as server, ExitStack() as stack:
            for pid in (1, 2):
                stack.enter_context(server.client(client_name=name("worker", pid))).ping()
            with QueueProcess(role, REDIS_URL=server.url) as process:
                line = process.wait_for("error: ")
                assert process.exit_status() == 1
        assert "2 worker x 4 + 1 " in line
        assert "Traceback" not in process.output

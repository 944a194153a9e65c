import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.core.config import BASE_DIR
from kit.commands.connections import as_table
from kit.connections import Budget, Census, Holder, Line
from kit.testing._processes import QueueProcess, RedisServer
from kit.tests.pgbouncer import pgbouncer

PLAN = Budget((Line("API", 1, 2), Line("worker", 1, 4)), 30, "REDIS_CONNECTION_LIMIT")
POSTGRES_PLAN = Budget((Line("API", 2, 10),), 15, "POSTGRES_CONNECTION_LIMIT")
REDIS = Census(
    (
        Holder("api", "web-1", 4711, 2, 2),
        Holder("worker", "worker-1.example", 12, 5, 4),
        Holder("others", "", None, 1, None),
    ),
    in_use=8,
    plan=PLAN,
)
POSTGRES = Census((), None, POSTGRES_PLAN, "behind the pooler: not whose")

TABLE = """\
Redis       host              process  holds  may hold
  api       web-1                4711      2  2
  worker    worker-1.example       12      5  4 OVER
  others                                   1
  in use: 8 of REDIS_CONNECTION_LIMIT 30
  plan: 1 API x 2 + 1 worker x 4 + 1 for commands = 7 of REDIS_CONNECTION_LIMIT 30

PostgreSQL
  behind the pooler: not whose
  plan: 2 API x 10 + 1 for commands = 21 of POSTGRES_CONNECTION_LIMIT 15 OVER"""


def test_the_table_is_aligned_and_names_what_is_over() -> None:
    assert as_table({"Redis": REDIS, "PostgreSQL": POSTGRES}) == TABLE


def connections(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kit.commands.connections", *options],
        cwd=BASE_DIR,
        env=os.environ | {"POSTGRES_CONNECTION_LIMIT": "90"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("test_database")
class TestCommand:
    def test_a_worker_and_its_children_are_shown(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            # Tests that run beside this one use the same PostgreSQL, under the service's name.
            own = {"PROJECT_NAME": "Counted"}
            environment = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": "", **own}
            pool = ("--pool", "processes", "--concurrency", "1")
            with QueueProcess("worker", *pool, **environment) as worker:
                worker.wait_for("ready.")
                send(environment)
                worker.wait_for("pong: shown")
                result = connections("--json", **environment)
        assert result.returncode == 0, result.stdout + result.stderr
        told: dict[str, Any] = json.loads(result.stdout)
        redis = {each["role"]: each for each in told["Redis"]["holders"]}
        assert redis["worker"]["pid"] == worker.pid
        assert 3 <= redis["worker"]["connections"] <= redis["worker"]["allowance"] == 4
        assert redis["worker-child"]["connections"] <= redis["worker-child"]["allowance"] == 2
        assert redis["command"]["connections"] == 1
        assert told["Redis"]["limit"] == 1000
        [command] = (each for each in told["PostgreSQL"]["holders"] if each["pid"])
        assert (command["role"], command["connections"]) == ("command", 1)

    @pytest.mark.parametrize("pool", [("solo",), ("threads", "--concurrency", "4")])
    def test_a_worker_without_children_is_one_process(
        self, tmp_path: Path, pool: tuple[str, ...]
    ) -> None:
        with RedisServer(tmp_path) as server:
            environment = {"REDIS_URL": server.url, "REDIS_KEY_PREFIX": ""}
            with QueueProcess("worker", "--pool", *pool, **environment) as worker:
                worker.wait_for("ready.")
                send(environment)
                result = connections("--json", **environment)
        shown, command = json.loads(result.stdout)["Redis"]["holders"]
        assert (shown["role"], shown["pid"]) == ("worker", worker.pid)
        assert 3 <= shown["connections"] <= shown["allowance"] == 4
        assert command["role"] == "command"

    def test_status_1_when_over(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            result = connections(REDIS_URL=server.url, REDIS_CONNECTION_LIMIT="11")
        assert result.returncode == 1
        assert "= 12 of REDIS_CONNECTION_LIMIT 11 OVER" in result.stdout

    @pytest.mark.parametrize("mode", ["session", "transaction"])
    def test_behind_a_real_pooler(self, mode: str) -> None:
        with pgbouncer(mode, pool_size=3) as environment:
            result = connections(**environment)
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"behind the pooler in {mode} mode PostgreSQL sees" in result.stdout


def send(environment: dict[str, str]) -> None:
    code = "import app.tasks; from kit.queue import ping; ping.delay('shown').get(timeout=30)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True)

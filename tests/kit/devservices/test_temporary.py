"""Throw-away servers leave nothing behind, however the test run ends."""

import os
import subprocess
import sys
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import psycopg2
import pytest
import redis

from app.core.config import BASE_DIR
from kit.devservices import (
    DevServicesError,
    starting_servers,
    temporary_servers,
    wait_for_servers,
)
from kit.devservices._data import claimed_addresses, port_is_free
from kit.tests.devservices.project import wait_until

pytestmark = pytest.mark.slow

START_AND_WAIT = """
import tempfile, time
from kit.devservices import temporary_servers
with temporary_servers() as servers:
    print(servers.postgres.port, servers.redis.port, flush=True)
    time.sleep(600)
"""


def test_both_servers_answer_and_are_gone_afterwards() -> None:
    with temporary_servers() as servers:
        connection = psycopg2.connect(f"{servers.postgres.url}/postgres")
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('fsync'), current_setting('data_directory')")
            fsync, directory = cursor.fetchone() or ("", "")
        connection.close()
        assert fsync == "off"
        assert redis.Redis.from_url(servers.redis.url).ping()
    assert port_is_free(servers.postgres.port)
    assert port_is_free(servers.redis.port)
    assert not Path(directory).parent.exists()


def test_only_what_is_asked_for_starts() -> None:
    with temporary_servers(postgres=False) as servers:
        assert redis.Redis.from_url(servers.redis.url).ping()
        assert port_is_free(servers.postgres.port)


def test_they_start_while_their_process_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With programs that wait for this very test, and then are too old."""
    going_on = tmp_path / "going_on"
    for name in ("initdb", "postgres"):
        waits = f"until [ -e {going_on} ]; do sleep 0.05; done"
        (tmp_path / name).write_text(f"#!/bin/sh\n{waits}\necho '(PostgreSQL) 9.6'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    with starting_servers(["postgres"]) as (directory, _):
        going_on.touch()
        with pytest.raises(DevServicesError, match="is of version 9"):
            wait_for_servers(directory, ["postgres"])
    assert not directory.exists()


def test_two_runs_never_choose_the_same_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even before their servers listen."""
    few = list(islice(filter(port_is_free, range(20000, 32000)), 8))
    monkeypatch.setattr("kit.devservices._data._PORTS", few)
    for again in ("once", "again"):
        with ExitStack() as runs:
            chosen = []
            for run in ("first", "second", "third"):
                folder = tmp_path / f"{run}_{again}"
                folder.mkdir()
                addresses = runs.enter_context(claimed_addresses(folder))
                chosen += [addresses.postgres.port, addresses.redis.port]
            assert len({*chosen}) == 6


def test_they_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT],
        env={**os.environ, "PYTHONPATH": str(BASE_DIR)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        assert len(ports) == 2
        assert not any(port_is_free(port) for port in ports)
        process.kill()
    wait_until(lambda: all(port_is_free(port) for port in ports))

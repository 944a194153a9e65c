"""Throw-away servers leave nothing behind, however the test run ends."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
import redis

from app.core.config import BASE_DIR
from kit.devservices import temporary_servers
from kit.devservices._data import port_is_free
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

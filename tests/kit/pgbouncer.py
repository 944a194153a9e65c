"""A real PgBouncer in front of the test database, as Supabase has a pooler before a project.

PgBouncer is a program of the system (`apt-get install pgbouncer`). Where it is missing, tests that
need it are skipped; in CI that is a failure, because nothing else would show the pooler at work.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from kit.devservices import signal_at_end_of_parent
from kit.settings import settings


@contextmanager
def pgbouncer(mode: str, *, pool_size: int, port: int = 0) -> Iterator[dict[str, str]]:
    """Run a PgBouncer and give the environment that points the service at it.

    Args:
        mode: `session` or `transaction`.
        pool_size: server connections that it lends out for each database.
        port: on which it listens; a free one when left out.
    """
    program = find_pgbouncer()
    # PgBouncer refuses to run as root, so what it reads has to be readable for somebody else.
    root = os.geteuid() == 0
    user = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
    identity: dict[str, Any] = {}
    if root:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder, socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", port))
        port = reserved.getsockname()[1]
        configuration = Path(folder) / "pgbouncer.ini"
        configuration.write_text(_configuration(mode, port, pool_size), encoding="utf-8")
        configuration.chmod(0o600)
        if root:
            for path in (Path(folder), configuration):
                os.chown(path, user.pw_uid, user.pw_gid)
        reserved.close()
        process = subprocess.Popen(
            [program, str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
            **identity,
        )
        try:
            _wait_until_it_answers(port, process)
            yield {
                "DATABASE_URL": (
                    f"postgresql://{settings.POSTGRES_USER}@127.0.0.1:{port}/{settings.POSTGRES_DB}"
                ),
                "POSTGRES_POOLER": mode,
                "POSTGRES_SSLMODE": "disable",
            }
        finally:
            process.terminate()
            process.wait(timeout=10)


class Console:
    """PgBouncer's own console, which tells who is connected to it."""

    def __init__(self, url: str) -> None:
        address = make_url(url)
        self._connection = psycopg2.connect(
            host=address.host, port=address.port, user=address.username, dbname="pgbouncer"
        )
        self._connection.autocommit = True  # the console knows no transactions

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def pool(self, database: str) -> dict[str, int]:
        """Clients and server connections of one database by their states; none yet, all 0."""
        totals: Counter[str] = Counter()
        with self._connection.cursor() as cursor:
            cursor.execute("SHOW POOLS")
            names = [column.name for column in cursor.description or ()]
            for row in cursor.fetchall():
                pool = dict(zip(names, row, strict=True))
                if pool["database"] == database:
                    totals.update({k: v for k, v in pool.items() if isinstance(v, int)})
        return totals


def find_pgbouncer() -> str:
    """Path of the program; skips the test, or fails it in CI, where there is none."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        message = "PgBouncer is not installed: apt-get install pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return program


def _configuration(mode: str, port: int, pool_size: int) -> str:
    url = make_url(settings.SYNC_DATABASE_URL)
    server = f"host={url.host or url.query['host']} port={url.port or url.query.get('port', 5432)}"
    password = (url.password or "").replace("'", "''")
    return f"""
[databases]
* = {server} user={url.username} password='{password}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 200
admin_users = {settings.POSTGRES_USER}
query_wait_timeout = 30
ignore_startup_parameters = extra_float_digits
"""


def _wait_until_it_answers(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg2.connect(
                host="127.0.0.1",
                port=port,
                user=settings.POSTGRES_USER,
                dbname="pgbouncer",
            ).close()
        except psycopg2.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return

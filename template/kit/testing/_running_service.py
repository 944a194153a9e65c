"""API and worker as processes, for what crosses from one to the other."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy.engine import make_url

from kit.devservices import signal_at_end_of_parent
from kit.settings import BASE_DIR, settings
from kit.testing._databases import create_database, drop_database
from kit.testing._queue_processes import START_SECONDS, QueueProcess
from kit.testing._redis_servers import free_port


@pytest.fixture
def running_service() -> Iterator[httpx.Client]:
    """A client of an API that runs beside a worker, both on a database and queue of their own.

    Nothing is rolled back here: what they commit goes with the database.
    """
    with (
        own_database() as environment,
        run_api(environment) as address,
        QueueProcess("worker", **environment) as worker,
        httpx.Client(base_url=address) as client,
    ):
        worker.wait_for("ready.")
        yield client


@contextmanager
def own_database() -> Iterator[dict[str, str]]:
    """Settings of processes with a database and queue of their own, which the end clears away."""
    name = f"running_{secrets.token_hex(4)}_test"
    url = make_url(settings.SYNC_DATABASE_URL).set(drivername="postgresql", database=name)
    create_database(name)
    try:
        yield {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "POSTGRES_DB": name,
            "REDIS_KEY_PREFIX": f"{settings.REDIS_KEY_PREFIX}{name}:",
        }
    finally:
        drop_database(name)


@contextmanager
def run_api(environment: Mapping[str, str], *, module: str = "kit.commands.serve") -> Iterator[str]:
    """Run the API, with what the environment adds to the test run's own; gives its address.

    Args:
        environment: settings of the test's own.
        module: what `python -m` runs, for a test that serves more than the service does.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=BASE_DIR,
        env={**os.environ, **environment, "API_PORT": str(port)},
        preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_alive(process, address)
        yield address
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_until_alive(process: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{address}/health/live").raise_for_status()
        except httpx.TransportError:
            assert process.poll() is None, "the API has ended"
            assert time.monotonic() < deadline, "the API does not answer"
            time.sleep(0.05)
        else:
            return

"""A receiver, and a service whose processes send to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.core.config import BASE_DIR
from app.extensions.telemetry.tests.receiver import SECONDS, Receiver
from kit.testing import QueueProcess, free_port, own_database

MODULE = "app.extensions.telemetry.tests.traced_service"
TASKS = "app.extensions.telemetry.tests.traced_tasks"


@dataclass
class RunningApi:
    """The API as a process, and its log."""

    client: httpx.Client
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def lines(self) -> list[str]:
        """What it has logged so far."""
        return self.log.read_text(encoding="utf-8").splitlines()

    def stop(self) -> float:
        """Stop it as a platform does; the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(SECONDS)
        return time.monotonic() - began


@contextmanager
def running(log: Path, **environment: str) -> Iterator[RunningApi]:
    """Run the API with the routes of the tests."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            cwd=BASE_DIR,
            env={**os.environ, **environment, "API_PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
            deadline = time.monotonic() + 2 * SECONDS
            while True:
                try:
                    client.get("/health/live").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log.read_text(encoding="utf-8")
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield RunningApi(client, process, log)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A collector, and Sentry's ingest."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def configured(receiver: Receiver) -> Iterator[dict[str, str]]:
    """Settings of processes that trace everything, and send it soon."""
    with own_database() as environment:
        yield {
            **environment,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "TELEMETRY_SAMPLE_RATIO": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "SENTRY_DSN": f"http://key@127.0.0.1:{receiver.port}/7",
            "SENTRY_RELEASE": "shop@1.2.3",
            "LOG_LEVEL": "INFO",
        }


StartApi = Callable[..., RunningApi]
StartWorker = Callable[..., QueueProcess]


@pytest.fixture(scope="module")
def start_api(
    configured: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartApi]:
    """Starts an API, with further settings."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(
            running(tmp_path_factory.mktemp("api") / "log", **{**configured, **more})
        )


@pytest.fixture(scope="module")
def start_worker(configured: dict[str, str]) -> Iterator[StartWorker]:
    """Starts a worker with the tasks of the tests, and with further arguments and settings."""
    with ExitStack() as stack:

        def start(*arguments: str, **more: str) -> QueueProcess:
            worker = stack.enter_context(
                QueueProcess("worker", "--include", TASKS, *arguments, **{**configured, **more})
            )
            worker.wait_for("ready.")
            return worker

        yield start

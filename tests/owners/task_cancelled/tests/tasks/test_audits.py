"""Audits that are cancelled, and priorities."""

import time
from collections.abc import Iterator

import pytest
from celery.result import AsyncResult

from app.tasks.audits import audit, cancel
from kit.testing import QueueProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker() -> Iterator[QueueProcess]:
    with QueueProcess("worker", "--queues", "audits") as worker:
        worker.wait_for("ready.")
        yield worker


def send(steps: int) -> AsyncResult[int]:
    return audit.apply_async((steps,), queue="audits")


def wait_for_state(task: AsyncResult[int], state: str) -> None:
    deadline = time.monotonic() + 30
    while task.state != state:
        assert time.monotonic() < deadline, task.state
        time.sleep(0.05)


def test_one_that_runs_and_one_that_waits_are_cancelled(worker: QueueProcess) -> None:
    runs, waits = send(6000), send(6000)
    worker.wait_for(f"audit[{runs.id}] received")
    for task in (waits, runs):
        cancel(task.id)
    for task in (waits, runs):
        wait_for_state(task, "CANCELLED")
    assert send(1).get(timeout=30) == 1


def test_a_lower_number_goes_first(worker: QueueProcess) -> None:
    running = send(20)
    worker.wait_for(f"audit[{running.id}] received")
    later = audit.apply_async((1,), queue="audits", priority=9)
    sooner = send(1)
    assert (later.get(timeout=30), sooner.get(timeout=30)) == (1, 1)
    lines = [line for line in worker.lines if "succeeded" in line]
    assert sooner.id in lines[-2]
    assert later.id in lines[-1]

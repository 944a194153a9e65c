"""Tasks that end their worker; it loads them with `--include kit.tests.deadly_tasks`."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Task

from app.core.celery import celery_app


def note(path: str) -> None:
    """Note a run in a file."""
    with Path(path).open("a") as file:
        file.write(f"{time.time()}\n")


@celery_app.task(name="tests.die")
def die(path: str, way: str) -> None:
    """End this process in one of the ways in which processes end."""
    note(path)
    if way == "segmentation fault":
        ctypes.string_at(0)
    elif way == "sys.exit":
        sys.exit(3)
    elif way.startswith("exit"):
        os._exit(int(way.removeprefix("exit ")))
    else:
        if way == "kill worker":
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


@celery_app.task(name="tests.run_for")
def run_for(path: str, seconds: float) -> str:
    """Run for some seconds."""
    note(path)
    time.sleep(seconds)
    return "done"


@celery_app.task(name="tests.die_and_retry", bind=True)
def die_and_retry(self: Task[..., Any], path: str) -> list[int]:
    """Lose two deliveries, retry, lose two of the retry's, and return all delivery counts."""
    count = int(self.request.get("x-delivery-count", 0))
    with Path(path).open("a") as file:
        file.write(f"{count}\n")
    if count < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return [int(line) for line in Path(path).read_text().splitlines()]


@celery_app.task(name="tests.retry_once", bind=True)
def retry_once(self: Task[..., Any], path: str, until: str, countdown: float) -> str:
    """Wait for a file, and retry the first run."""
    note(path)
    while not Path(until).exists():
        time.sleep(0.02)
    if self.request.retries == 0:
        raise self.retry(countdown=countdown)
    return "done"

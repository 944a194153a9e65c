"""Tasks for tests of the worker, which it loads with `--include tests.queue_tasks`."""

import time
from pathlib import Path

from app.core.celery import celery_app


@celery_app.task(name="tests.wait_for_file")
def wait_for_file(path: str) -> str:
    """End as soon as a file exists, so that a test decides how long the task runs."""
    while not Path(path).exists():
        time.sleep(0.02)
    return "seen"

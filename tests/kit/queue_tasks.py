"""Tasks for tests of the worker, which it loads with `--include kit.tests.queue_tasks`."""

import os
import time
from pathlib import Path

from app.core.celery import celery_app
from app.core.config import settings
from kit.redis._pool import redis_client
from kit.settings import known_secrets


@celery_app.task(name="tests.wait_for_file")
def wait_for_file(path: str) -> str:
    """End as soon as a file exists, so that a test decides how long the task runs."""
    while not Path(path).exists():
        time.sleep(0.02)
    return "seen"


@celery_app.task(name="tests.note_start_and_wait")
def note_start_and_wait(starts: str, end: str) -> str:
    """Note this process in one file, then wait for the other."""
    with Path(starts).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return str(wait_for_file(end))


@celery_app.task(name="tests.hold_redis_connection", ignore_result=True)
def hold_redis_connection(seconds: float) -> None:
    """Keep one of the connections of this process from the others."""
    pool = redis_client().connection_pool
    connection = pool.get_connection()
    time.sleep(seconds)
    pool.release(connection)


@celery_app.task(name="tests.quote_secrets")
def quote_secrets() -> None:
    """Fail with an error that quotes every secret of the process, as a careless library's would."""
    raise ValueError(f"refused: {' '.join(known_secrets)} at {settings.REDIS_URL}")

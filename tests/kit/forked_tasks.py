"""Whose connections forked children use, when their parent has used the database before.

The worker loads it with `--include kit.tests.forked_tasks`.
"""

import os
import time
from typing import Any

from celery import signals
from sqlalchemy import text

from app.core.celery import celery_app
from app.core.database import sync_engine

SECONDS = 0.2
"""How long the task takes, so that one child does not run them all."""


def server_process() -> int:
    """Process id of the server's side of this process's connection."""
    with sync_engine.connect() as connection:
        return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


@signals.worker_init.connect
def _use_database(**_: Any) -> None:
    os.environ["PARENTS_CONNECTION"] = str(server_process())


@celery_app.task(name="tests.connection_of_child")
def connection_of_child() -> tuple[int, int, int]:
    """Process id of the child, of its connection, and of its parent's connection."""
    time.sleep(SECONDS)
    return os.getpid(), server_process(), int(os.environ["PARENTS_CONNECTION"])

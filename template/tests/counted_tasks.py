"""For a worker under load, which loads it with `--include tests.counted_tasks`: counts each run."""

from typing import Any

from celery import signals

from app.core.redis_pool import redis_client

RUNS = "runs-of-tasks"
"""A hash in Redis: how many times the task of each id began to run."""


@signals.task_prerun.connect
def count_run(task_id: str, **_: Any) -> None:
    """Note one more run of a task."""
    redis_client().hincrby(RUNS, task_id, 1)

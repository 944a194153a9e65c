"""For a worker under load, started with `--include kit.tests.counted_tasks`: counts each run.

Nobody else imports it: from then on the tasks that run in that process would be counted too.
"""

from typing import Any

from celery import signals

from kit.redis._pool import redis_client
from kit.tests.task_load import RUNS


@signals.task_prerun.connect
def count_run(task_id: str, **_: Any) -> None:
    """Note one more run of a task."""
    redis_client().hincrby(RUNS, task_id, 1)

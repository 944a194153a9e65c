"""The heartbeat: a key that stays alive as long as beat, broker and worker do."""

import time

from celery import shared_task

from kit.queue._status import HEARTBEAT_KEY
from kit.redis import redis_client
from kit.settings import settings

HEARTBEAT_SECONDS = 60
"""How often beat sends the task; the key is gone after three that did not come."""


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Note the time: beat sent this task, the broker kept it and a worker ran it."""
    redis_client().set(HEARTBEAT_KEY, f"{time.time():.3f}", ex=3 * HEARTBEAT_SECONDS)

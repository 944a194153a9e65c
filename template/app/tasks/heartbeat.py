"""The heartbeat: a key that stays alive as long as beat, broker and worker do."""

import time

from app.core.celery import celery_app
from app.core.config import settings
from app.core.redis_pool import redis_client
from app.core.redis_status import HEARTBEAT_KEY

HEARTBEAT_SECONDS = 60
"""How often beat sends the task; the key is gone after three that did not come."""


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Note the time: beat sent this task, the broker kept it and a worker ran it."""
    redis_client().set(HEARTBEAT_KEY, f"{time.time():.3f}", ex=3 * HEARTBEAT_SECONDS)

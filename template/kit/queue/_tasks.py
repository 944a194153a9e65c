"""The kit's own tasks, and when they run: beat stores the entries as `core.<name>`."""

import logging
import time
from typing import Any, TypedDict

from celery import shared_task

from kit.context import get_request_id, get_task_id
from kit.queue._status import HEARTBEAT_KEY
from kit.redis import redis_client
from kit.settings import settings

logger = logging.getLogger(__name__)


class Pong(TypedDict):
    """What `ping` gives back."""

    message: str
    request_id: str


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.ping")
def ping(message: str) -> Pong:
    """Give back the message, with the id of the request that sent the task."""
    logger.info("%spong: %s", get_task_id(), message)
    return Pong(message=message, request_id=get_request_id())


HEARTBEAT_SECONDS = 60
"""How often beat sends the task; the key is gone after three that did not come."""


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Note the time: beat sent this task, the broker kept it and a worker ran it."""
    redis_client().set(HEARTBEAT_KEY, f"{time.time():.3f}", ex=3 * HEARTBEAT_SECONDS)


SCHEDULES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "task": heartbeat.name,
        "schedule": HEARTBEAT_SECONDS,
        # Without a worker they would pile up, each as out of date as the next.
        "options": {"expires": HEARTBEAT_SECONDS},
    },
}

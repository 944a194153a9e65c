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
    """The result of `ping`."""

    message: str
    request_id: str


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.ping")
def ping(message: str) -> Pong:
    """Return the message, with the id of the request that sent the task."""
    logger.info("%spong: %s", get_task_id(), message)
    return Pong(message=message, request_id=get_request_id())


HEARTBEAT_SECONDS = 60
"""Interval at which beat sends the task; the key expires after three missed ones."""


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Store the time, which proves that beat sent this task and a worker ran it."""
    redis_client().set(HEARTBEAT_KEY, f"{time.time():.3f}", ex=3 * HEARTBEAT_SECONDS)


SCHEDULES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "task": heartbeat.name,
        "schedule": HEARTBEAT_SECONDS,
        # Without a worker they would pile up, all of them out of date.
        "options": {"expires": HEARTBEAT_SECONDS},
    },
}

"""The kit's own tasks, and when they run.

Beat stores the entries of the schedule as `core.<name>`.
"""

import logging
import time
from contextlib import suppress
from typing import Any, TypedDict

import redis
from celery import shared_task

from kit.context import get_request_id, get_task_id
from kit.redis import RedisPoolBusyError, redis_client, run_redis_call
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


HEARTBEAT_KEY = f"{settings.REDIS_KEY_PREFIX}heartbeat"
"""Holds the Unix time of the last heartbeat."""

UNNAMED_PROXY_KEY = f"{settings.REDIS_KEY_PREFIX}unnamed-proxy"
UNNAMED_PROXY = (
    "reports callers' addresses in X-Forwarded-For, but FORWARDED_ALLOW_IPS does not name it. If "
    "it is your proxy, add its address or network there."
)
DAY_SECONDS = 24 * 3600

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


async def remember_unnamed_proxy(address: str) -> None:
    """Keep the address for `make doctor`, which may run elsewhere; not where Redis is away."""
    with suppress(redis.RedisError, RedisPoolBusyError):
        await run_redis_call(lambda: redis_client().set(UNNAMED_PROXY_KEY, address, ex=DAY_SECONDS))

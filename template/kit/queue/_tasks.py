"""The kit's own tasks, when they run, and what shows that they do: the state of Redis and beat.

Beat stores the entries of the schedule as `core.<name>`.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict

import redis
from celery import shared_task

from kit.connections import redis_limit
from kit.context import get_request_id, get_task_id
from kit.places import service
from kit.queue._app import BEAT_LOCK_SECONDS
from kit.redis import DEAD_LETTERS_KEY, RedisPoolBusyError, redis_client, run_redis_call
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


@dataclass(frozen=True)
class RedisStatus:
    """The state of Redis. A value that the plan does not show is None."""

    version: str
    used_memory_bytes: int
    memory_limit_bytes: int | None
    """None where the server has no limit of its own."""
    eviction_policy: str
    """Any policy but `noeviction` lets Redis evict waiting tasks or results."""
    connected_clients: int
    connection_limit: int
    """The lower of the server's limit and `REDIS_CONNECTION_LIMIT`."""
    connection_limit_name: str
    """The name of the lower one."""
    beat_lock_age_seconds: float | None
    """Time since beat last renewed its lock; None when no beat holds the lock."""
    heartbeat_age_seconds: float | None
    """Time since a worker last ran beat's heartbeat task; None after three minutes."""
    dead_letters: int = 0
    """Tasks that were given up."""
    unnamed_proxy: str = ""
    """Address of a proxy that the API noticed within a day, see `UNNAMED_PROXY`."""


def read_redis_status() -> RedisStatus:
    """Read the state of Redis, on one connection of this process's pool.

    Raises:
        redis.RedisError: when it cannot be reached.
    """
    client = redis_client()
    information: dict[str, Any] = client.info()
    limit, limit_name = redis_limit(client)
    return RedisStatus(
        version=information["redis_version"],
        used_memory_bytes=information["used_memory"],
        memory_limit_bytes=information.get("maxmemory") or None,
        eviction_policy=information.get("maxmemory_policy", "unknown"),
        connected_clients=information["connected_clients"],
        connection_limit=limit,
        connection_limit_name=limit_name,
        beat_lock_age_seconds=_beat_lock_age(client),
        heartbeat_age_seconds=_heartbeat_age(client),
        dead_letters=int(client.llen(DEAD_LETTERS_KEY)),
        unnamed_proxy=str(client.get(UNNAMED_PROXY_KEY) or ""),
    )


async def remember_unnamed_proxy(address: str) -> None:
    """Keep the address for `make doctor`, which may run elsewhere; not where Redis is away."""
    with suppress(redis.RedisError, RedisPoolBusyError):
        await run_redis_call(lambda: redis_client().set(UNNAMED_PROXY_KEY, address, ex=DAY_SECONDS))


def _beat_lock_age(client: redis.Redis) -> float | None:
    milliseconds = client.pttl(f"{service.celery_app.conf.redbeat_key_prefix}:lock")
    return BEAT_LOCK_SECONDS - milliseconds / 1000 if milliseconds > 0 else None


def _heartbeat_age(client: redis.Redis) -> float | None:
    moment = client.get(HEARTBEAT_KEY)
    return max(0.0, time.time() - float(moment)) if moment else None

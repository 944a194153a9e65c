"""The kit's own tasks, when they run, and what shows that they do: the state of Redis and beat.

Beat stores the entries of the schedule as `core.<name>`.
"""

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypedDict

import redis
from celery import shared_task
from celery.schedules import crontab

from kit.connections import redis_limit
from kit.context import get_request_id, get_task_id
from kit.models import AuditEntry
from kit.outbox import delete_old
from kit.places import service
from kit.queue._app import BEAT_LOCK_SECONDS
from kit.redis import (
    COUNTS_KEY,
    DEAD_LETTERS_KEY,
    SENT_AT,
    UNACKNOWLEDGED_KEY,
    RedisPoolBusyError,
    queue_keys,
    redis_client,
    run_redis_call,
)
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


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.delete_old_audit")
def delete_old_audit() -> int:
    """Delete audit entries of more than `AUDIT_KEEP_DAYS` ago, and return how many."""
    if settings.AUDIT_KEEP_DAYS is None:
        return 0
    # Log-in throttling counts the failures within its window.
    days = max(settings.AUDIT_KEEP_DAYS, settings.ADMIN_LOGIN_WINDOW / DAY_SECONDS)
    deleted = delete_old(AuditEntry, days=days, unfinished=(), since="occurred_at")
    logger.info("%s%d entries of the audit deleted", get_task_id(), deleted)
    return deleted


SCHEDULES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "task": heartbeat.name,
        "schedule": HEARTBEAT_SECONDS,
        # Without a worker they would pile up, all of them out of date.
        "options": {"expires": HEARTBEAT_SECONDS},
    },
    "delete-old-audit": {
        "task": delete_old_audit.name,
        "schedule": crontab(hour="4", minute="0"),
    },
}


@dataclass(frozen=True)
class QueueStatus:
    """Tasks that wait in one queue."""

    name: str
    waiting: int
    oldest_age_seconds: float | None
    """Since the oldest one was sent; None where none waits, or its sender is of an older kit."""


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
    is_persistent: bool | None = None
    """Whether each write is appended to a file; None where the server does not say."""
    unnamed_proxy: str = ""
    """Address of a proxy that the API noticed within a day, see `UNNAMED_PROXY`."""
    operations_per_second: int = 0
    """As the server measures them, those of all its clients."""
    queues: tuple[QueueStatus, ...] = ()
    unacknowledged: int = 0
    """Tasks that workers have: those that run, and those that wait for their time."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often each rare event happened since Redis was empty, see `kit.redis.count_event`."""

    @property
    def is_heartbeat_late(self) -> bool:
        """Whether no worker has run beat's heartbeat for more than two of its intervals."""
        age = self.heartbeat_age_seconds
        return age is None or age > 2.5 * HEARTBEAT_SECONDS


def read_redis_status() -> RedisStatus:
    """Read the state of Redis, on one connection of this process's pool.

    Raises:
        redis.RedisError: when it cannot be reached.
    """
    keys = [key for name in queue_names() for key in queue_keys(name)]
    pipe: Any = redis_client().pipeline(transaction=False)
    pipe.info().pttl(f"{service.celery_app.conf.redbeat_key_prefix}:lock")
    pipe.get(HEARTBEAT_KEY).get(UNNAMED_PROXY_KEY).llen(DEAD_LETTERS_KEY)
    pipe.hlen(UNACKNOWLEDGED_KEY).hgetall(COUNTS_KEY)
    for key in keys:
        pipe.llen(key)
    answers: Any = pipe.execute()
    information, lock_milliseconds, heartbeat, proxy, dead, taken, counts, *lengths = answers
    limit, limit_name = redis_limit(information)
    return RedisStatus(
        version=information["redis_version"],
        used_memory_bytes=information["used_memory"],
        memory_limit_bytes=information.get("maxmemory") or None,
        eviction_policy=information.get("maxmemory_policy", "unknown"),
        connected_clients=information["connected_clients"],
        connection_limit=limit,
        connection_limit_name=limit_name,
        beat_lock_age_seconds=(
            BEAT_LOCK_SECONDS - lock_milliseconds / 1000 if lock_milliseconds > 0 else None
        ),
        heartbeat_age_seconds=max(0.0, time.time() - float(heartbeat)) if heartbeat else None,
        dead_letters=dead,
        is_persistent=bool(information["aof_enabled"]) if "aof_enabled" in information else None,
        unnamed_proxy=proxy or "",
        operations_per_second=information.get("instantaneous_ops_per_sec", 0),
        queues=tuple(_queues(dict(zip(keys, lengths, strict=True)))),
        unacknowledged=taken,
        counts={event: int(count) for event, count in counts.items()},
    )


def queue_names() -> list[str]:
    """Names of the queues that Celery's `task_queues` and a mapping in `task_routes` name."""
    routes = service.celery_app.conf.task_routes
    routed = routes.values() if isinstance(routes, Mapping) else ()
    named = {each["queue"] for each in routed if isinstance(each, Mapping) and "queue" in each}
    return sorted({*service.celery_app.amqp.queues, *(getattr(n, "name", n) for n in named)})


def _queues(lengths: Mapping[str, int]) -> list[QueueStatus]:
    """Add the age of the oldest message, which only queues are asked for that are not empty."""
    full = [key for key, length in lengths.items() if length]
    pipe = redis_client().pipeline(transaction=False)
    for key in full:
        pipe.lindex(key, -1)
    oldest = dict(zip(full, pipe.execute(), strict=True))
    found = []
    for name in queue_names():
        keys = queue_keys(name)
        ages = [age for key in keys if (age := _age(oldest.get(key))) is not None]
        waiting = sum(lengths[key] for key in keys)
        found.append(QueueStatus(name, waiting, max(ages, default=None)))
    return found


def _age(message: str | None) -> float | None:
    try:
        sent_at = json.loads(message or "")["headers"][SENT_AT]
        return max(0.0, time.time() - float(sent_at))
    except (ValueError, LookupError, TypeError):  # taken meanwhile, or not of this kit
        return None


async def remember_unnamed_proxy(address: str) -> None:
    """Keep the address for `make doctor`, which may run elsewhere; not where Redis is away."""
    with suppress(redis.RedisError, RedisPoolBusyError):
        await run_redis_call(lambda: redis_client().set(UNNAMED_PROXY_KEY, address, ex=DAY_SECONDS))

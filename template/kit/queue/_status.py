"""What Redis and the processes around it look like from here: for people, not for programs."""

import time
from dataclasses import dataclass
from typing import Any

import redis

from kit.connections import redis_limit
from kit.places import service
from kit.queue._app import BEAT_LOCK_SECONDS
from kit.redis import redis_client
from kit.settings import settings

HEARTBEAT_KEY = f"{settings.REDIS_KEY_PREFIX}heartbeat"
"""Holds the Unix time of the last heartbeat, see `kit.queue._tasks`."""


@dataclass(frozen=True)
class RedisStatus:
    """A look at Redis. What the plan does not let be asked is None."""

    version: str
    used_memory_bytes: int
    memory_limit_bytes: int | None
    """None where the server has no limit of its own."""
    eviction_policy: str
    """Anything but `noeviction` lets Redis throw away tasks that are waiting."""
    connected_clients: int
    connection_limit: int
    """The lower of what the server allows and `REDIS_CONNECTION_LIMIT`."""
    connection_limit_name: str
    """Which of the two it is."""
    beat_lock_age_seconds: float | None
    """Time since beat last said that it is alive; None when no beat holds the lock."""
    heartbeat_age_seconds: float | None
    """Time since a task of beat's went through broker and worker; None after three minutes."""


def read_redis_status() -> RedisStatus:
    """Ask Redis, on one connection of this process's pool.

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
    )


def _beat_lock_age(client: redis.Redis) -> float | None:
    milliseconds = client.pttl(f"{service.celery_app.conf.redbeat_key_prefix}:lock")
    return BEAT_LOCK_SECONDS - milliseconds / 1000 if milliseconds > 0 else None


def _heartbeat_age(client: redis.Redis) -> float | None:
    moment = client.get(HEARTBEAT_KEY)
    return max(0.0, time.time() - float(moment)) if moment else None

"""Counts of rare events, kept in Redis, since whoever shows them is another process."""

from contextlib import suppress
from typing import Any

import redis

from kit.redis._pool import RedisPoolBusyError, redis_client
from kit.settings import settings

COUNTS_KEY = f"{settings.REDIS_KEY_PREFIX}counts"
"""A hash: how often each event has been counted since Redis was empty."""


def count_event(event: str, client: Any = None) -> None:
    """Count an event one higher; not where Redis is away, since counting must not fail its caller.

    Args:
        event: its name, for example `outbox-failed:sms`.
        client: a pipeline that the caller executes; the process's client when left out.
    """
    with suppress(redis.RedisError, RedisPoolBusyError):
        (redis_client() if client is None else client).hincrby(COUNTS_KEY, event, 1)

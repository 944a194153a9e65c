"""Checks of Redis, and of what beat and worker leave there."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network

from kit.connections import redis_budget
from kit.doctor._checks import Finding, check, fine, problem, warning
from kit.queue import UNNAMED_PROXY, RedisStatus
from kit.settings import settings

MEMORY_WARNING = 0.8
"""Share of Redis's memory above which a warning is due."""

HEARTBEAT_LATE_SECONDS = 150


@check("redis", "Redis can be reached", "redis")
def _redis(status: RedisStatus) -> Iterator[Finding]:
    yield fine(f"version {status.version}, TLS {'on' if settings.REDIS_TLS else 'off'}")


@check("redis-memory", "Redis's memory is not nearly full", "redis")
def _memory(status: RedisStatus) -> Iterator[Finding]:
    limit = status.memory_limit_bytes
    message = f"{status.used_memory_bytes / 2**20:.1f} MiB in use"
    message += f" of {limit / 2**20:.1f} MiB" if limit else ", no limit of its own"
    if limit and status.used_memory_bytes > MEMORY_WARNING * limit:
        yield warning(message, "Lower CELERY_RESULT_EXPIRES, or choose a larger plan.")
    else:
        yield fine(message)


@check("redis-limit", "Redis allows the connections of all processes", "redis")
def _connection_limit(status: RedisStatus) -> Iterator[Finding]:
    budget = redis_budget(settings)
    real = replace(budget, limit=status.connection_limit, limit_name=status.connection_limit_name)
    if real.is_exceeded and not budget.is_exceeded:
        yield problem(
            f"connections: {real.spelled_out()}",
            f"Set REDIS_CONNECTION_LIMIT={real.limit} and run fewer processes, or choose a larger "
            "plan.",
        )


@check("redis-connections", "Redis has connections left", "redis")
def _connections(status: RedisStatus) -> Iterator[Finding]:
    used = (
        f"{status.connected_clients} connections in use of {status.connection_limit_name} "
        f"{status.connection_limit}"
    )
    if status.connected_clients >= status.connection_limit:
        remedy = "Run `make connections` to see whose they are; stop what is not needed."
        yield problem(used, remedy)
    else:
        yield fine(used)


@check("redis-eviction", "Redis evicts neither results nor waiting tasks", "redis")
def _eviction(status: RedisStatus) -> Iterator[Finding]:
    if status.eviction_policy != "noeviction":
        yield warning(
            f"the eviction policy is {status.eviction_policy}, which may evict results, "
            "and with an allkeys policy waiting tasks too",
            "Set the eviction policy to noeviction, in the provider's dashboard or with "
            "`CONFIG SET maxmemory-policy noeviction`",
        )


@check("redis-persistence", "Redis writes each task to its disk", "redis", production=True)
def _persistence(status: RedisStatus) -> Iterator[Finding]:
    if status.is_persistent is False:
        yield warning(
            "the append-only file is off: a restart of Redis loses waiting tasks",
            "Turn it on, in the provider's dashboard or with `CONFIG SET appendonly yes`",
        )


@check("beat", "beat runs the schedule", "redis")
def _beat(status: RedisStatus) -> Iterator[Finding]:
    if status.beat_lock_age_seconds is None:
        yield warning("none is running, no schedule runs", "Run `make beat` or `make dev`.")
    else:
        yield fine(f"holds its lock, renewed {status.beat_lock_age_seconds:.0f} s ago")


@check("heartbeat", "a worker runs what beat sends", "redis")
def _heartbeat(status: RedisStatus) -> Iterator[Finding]:
    age = status.heartbeat_age_seconds
    if age is None or age > HEARTBEAT_LATE_SECONDS:
        yield warning(
            "no worker has run beat's task in the last minutes",
            "Run `make worker` and `make beat`, or `make dev`, and look at their logs.",
        )
    else:
        yield fine(f"a worker ran beat's task {age:.0f} s ago")


@check("dead-letters", "no task was given up", "redis")
def _dead_letters(status: RedisStatus) -> Iterator[Finding]:
    if status.dead_letters:
        yield warning(f"{status.dead_letters} tasks were given up", "Run `make dead-letters`.")


@check("unnamed-proxy", "FORWARDED_ALLOW_IPS names the proxies that were noticed", "redis")
def _unnamed_proxy(status: RedisStatus) -> Iterator[Finding]:
    if status.unnamed_proxy and not _is_named(status.unnamed_proxy):
        message, _, remedy = UNNAMED_PROXY.partition(". ")
        yield warning(f"{status.unnamed_proxy} {message}", remedy)


def _is_named(address: str) -> bool:
    with suppress(ValueError):  # a Unix socket has no address
        named = (ip_network(each) for each in settings.FORWARDED_ALLOW_IPS if each != "*")
        return any(ip_address(address) in network for network in named)
    return False

"""The limits of plans, settings and this machine, and the rate of requests at which each ends."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kit.connections import postgres_pool_size
from kit.settings import Settings

THREADS = 40
"""Of AnyIO, which run sync endpoints. Source:
https://www.starlette.io/threadpool/
"""

Amounts = Mapping[str, float]
"""Seconds, operations and bytes by what they are of: see `Running.reading`."""


@dataclass(frozen=True)
class Plan:
    """What the servers' plans have, and how far away they are.

    The defaults are those of Redis Cloud's free plan and of Supabase's pooler on its smallest one.
    """

    latency: float = 0.020
    """Seconds that a request to a server and its answer are under way together."""
    redis_operations: float = 100
    """A second."""
    redis_megabytes: float = 30
    pooler_connections: int = 15
    """Of the pooler to the database; in transaction mode all clients share them."""


@dataclass(frozen=True)
class Limit:
    """A limit: what one request takes of it, and what there is."""

    key: str
    name: str
    each: float
    """What one request takes: seconds, operations or bytes."""
    shown: str
    """The same for people."""
    capacity: float
    """What there is a second."""
    of: str
    """The same for people."""
    moved_by: str
    """The settings or the plan that move it, with what they are now."""

    @property
    def rate(self) -> float:
        """Requests a second at which it ends; infinite where a request takes nothing of it."""
        return self.capacity / self.each if self.each > 0 else math.inf


def api_processes(settings: Settings) -> int:
    """Processes that serve the API."""
    return settings.API_INSTANCES * settings.API_WORKERS


def task_processes(settings: Settings) -> int:
    """Processes that run tasks; a prefork worker's children count as workers."""
    return settings.CELERY_WORKERS * max(1, settings.CELERY_WORKER_CHILDREN)


def pooler_mode(settings: Settings) -> str:
    """The pooler's mode where the service is deployed, also while it uses an embedded server."""
    return settings.POSTGRES_POOLER or settings.recognised_pooler or "none"


def limits(settings: Settings, plan: Plan, cost: Amounts, idle: Amounts) -> list[Limit]:
    """Compute the limits, the one that ends first before others.

    Args:
        settings: with which the service runs.
        plan: of its servers.
        cost: of one request.
        idle: what is used each second without any; `memory` are bytes that are in use.
    """
    return sorted(_limits(settings, plan, cost, idle), key=lambda limit: limit.rate)


def _limits(settings: Settings, plan: Plan, cost: Amounts, idle: Amounts) -> Iterator[Limit]:
    processes, tasks = api_processes(settings), task_processes(settings)
    cores = min(processes, os.cpu_count() or 1)
    pool, sync_pool = postgres_pool_size(settings), settings.POSTGRES_SYNC_POOL_SIZE
    expires = settings.CELERY_RESULT_EXPIRES
    is_pooled = pooler_mode(settings) == "transaction"

    def seconds(key: str, name: str, number: int, *moved_by: str) -> Limit:
        unit = f"{number} {'at work' if key in ('processor', 'worker') else 'held'}"
        shown = f"{1000 * cost[key]:.3g} ms"
        return Limit(key, name, cost[key], shown, number - idle[key], unit, ", ".join(moved_by))

    def now(*names: str) -> Iterator[str]:
        return (f"{name}={getattr(settings, name)}" for name in names)

    size = f"POSTGRES_POOL_SIZE={pool}{'' if settings.POSTGRES_POOL_SIZE else ' (computed)'}"
    allowed = f"POSTGRES_CONNECTION_LIMIT={settings.POSTGRES_CONNECTION_LIMIT}"
    more = now("API_WORKERS", "API_INSTANCES")
    yield seconds("processor", "API's processor", cores, *more)
    yield seconds("database", "API's database connections", processes * pool, size, allowed)
    yield seconds(
        "sync_database",
        "the same in sync code",
        processes * sync_pool,
        *now("POSTGRES_SYNC_POOL_SIZE"),
    )
    if is_pooled:
        yield seconds(
            "pooler",
            "pooler's database connections",
            plan.pooler_connections,
            f"the pooler's pool size ({plan.pooler_connections})",
        )
    yield seconds(
        "threads",
        "API's threads for sync code",
        processes * THREADS,
        "`async def`",
        *now("API_WORKERS", "API_INSTANCES"),
    )
    yield seconds(
        "redis",
        "API's Redis connections",
        processes * settings.REDIS_POOL_SIZE,
        *now("REDIS_POOL_SIZE", "REDIS_CONNECTION_LIMIT"),
    )
    yield Limit(
        "operations",
        "Redis operations",
        cost["operations"],
        f"{cost['operations']:.3g}",
        plan.redis_operations - idle["operations"],
        f"{plan.redis_operations:g}/s, {idle['operations']:.2g}/s at rest",
        "Redis's plan",
    )
    yield Limit(
        "memory",
        "Redis memory",
        cost["memory"],
        f"{cost['memory']:.0f} B for {expires} s",
        max(0, plan.redis_megabytes * 1e6 - idle["memory"]) / expires,
        f"{plan.redis_megabytes:g} MB, {idle['memory'] / 1e6:.2g} MB at rest",
        f"CELERY_RESULT_EXPIRES={expires}, ignore_result=True, Redis's plan",
    )
    yield seconds("worker", "workers", tasks, *now("CELERY_WORKERS", "CELERY_WORKER_CHILDREN"))

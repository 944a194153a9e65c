"""The connections to Redis and PostgreSQL that each process holds now, and its allowance."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.connections._budget import (
    Budget,
    postgres_allowance,
    postgres_budget,
    redis_allowance,
    redis_budget,
)
from kit.connections._processes import redis_clients, redis_limit
from kit.process import POSTGRES_SERVICE_BYTES, ProcessName, Role, parse_process_name, service_name
from kit.settings import settings

# Without the right to see another user's sessions, their names are visible but not their kind.
POSTGRES_CLIENTS = text(
    "SELECT coalesce(application_name, '') FROM pg_stat_activity "
    "WHERE datname IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'"
)


@dataclass(frozen=True)
class Holder:
    """One process of this service, or all other clients together."""

    role: str
    host: str
    pid: int | None
    connections: int
    allowance: int | None
    """Connections that it may hold; None for others."""

    @property
    def is_over(self) -> bool:
        """Whether it holds more connections than it may."""
        return self.allowance is not None and self.connections > self.allowance


@dataclass(frozen=True)
class Census:
    """The connections to one server, and the budget of the processes that the settings name."""

    holders: tuple[Holder, ...]
    in_use: int | None
    """None where the server does not see the connections that the limit counts."""
    limit: int
    limit_name: str
    plan: Budget
    note: str = ""
    """The part that is not known, and why."""

    @property
    def is_over(self) -> bool:
        """Whether a process, all connections, or the budget exceed their limit."""
        over = [self.is_crowded, self.plan.is_exceeded, *(each.is_over for each in self.holders)]
        return any(over)

    @property
    def is_crowded(self) -> bool:
        """Whether more connections are in use than the limit."""
        return self.in_use is not None and self.in_use > self.limit


def count_redis(client: redis.Redis) -> Census:
    """Count the connections to Redis, by the process that holds them.

    Raises:
        redis.RedisError: when it cannot be reached.
    """
    limit, limit_name = redis_limit(client)
    plan = replace(redis_budget(settings), limit=limit, limit_name=limit_name)
    clients = redis_clients(client)
    if clients is None:
        in_use = client.info("clients")["connected_clients"]
        note = "this Redis does not show whose they are: it forbids CLIENT LIST"
        return Census((), in_use, limit, limit_name, plan, note)
    allowances = {role: redis_allowance(settings, role) for role in get_args(Role)}
    # A prefork worker's allowance includes its children's, which hold their own part here.
    allowances["worker"] = redis_allowance(settings, "worker", children=0)
    # A command uses one connection at a time, so the budget counts one; its pool is as all others.
    allowances["command"] = settings.REDIS_POOL_SIZE
    names = [each.process for each in clients]
    holders = _holders(names, service_name(settings), allowances)
    return Census(holders, len(names), limit, limit_name, plan)


async def count_postgres(connection: AsyncConnection) -> Census:
    """Count the connections to PostgreSQL, this one included, by the process that holds them."""
    names = list(await connection.scalars(POSTGRES_CLIENTS))
    plan = postgres_budget(settings)
    limit, limit_name = settings.POSTGRES_CONNECTION_LIMIT, "POSTGRES_CONNECTION_LIMIT"
    if settings.pooler_mode != "none":
        note = (
            f"behind the pooler in {settings.pooler_mode} mode PostgreSQL sees the pooler's "
            f"connections, {len(names)} now, not whose they are"
        )
        return Census((), None, limit, limit_name, plan, note)
    allowances = {role: postgres_allowance(settings, role) for role in get_args(Role)}
    service = service_name(settings)[:POSTGRES_SERVICE_BYTES]
    holders = _holders(map(parse_process_name, names), service, allowances)
    return Census(holders, len(names), limit, limit_name, plan)


def _holders(
    names: Iterable[ProcessName | None], service: str, allowances: dict[Role, int]
) -> tuple[Holder, ...]:
    """Each process of the service in the order of its role, then all other clients."""
    roles: dict[str, tuple[int, int]] = {
        role: (order, allowance) for order, (role, allowance) in enumerate(allowances.items())
    }
    own: Counter[ProcessName] = Counter()
    others = 0
    for name in names:
        if name is None or name.service != service or name.role not in roles:
            others += 1
        else:
            own[name] += 1
    ordered = sorted(own.items(), key=lambda item: (roles[item[0].role], item[0].host, item[0].pid))
    holders = [
        Holder(name.role, name.host, name.pid, count, roles[name.role][1])
        for name, count in ordered
    ]
    if others:
        holders.append(Holder("others", "", None, others, None))
    return tuple(holders)

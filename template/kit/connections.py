"""Connections to Redis and PostgreSQL: the budget of the processes, and what they hold now.

The budget is how many connections the processes may hold, as the settings define it: the one source
for the size of the pools, the refusal to start more processes than the plan allows, `make doctor`
and `make connections`. All numbers are upper bounds that the pools keep.

A process that was started beside those of the settings, for example by `docker compose up --scale`,
is only seen among those that are connected.
"""

import logging
import multiprocessing
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import redis
from kombu.exceptions import LimitExceeded
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.process import (
    POSTGRES_SERVICE_BYTES,
    ProcessName,
    Role,
    client_name,
    parse_process_name,
    service_name,
    start_local_services,
    this_process,
)
from kit.redis import redis_client
from kit.settings import Settings, StartupError, settings, where_set

logger = logging.getLogger(__name__)

LISTENING_CONNECTIONS = Counter[Role]({"worker": 2, "flower": 1})
"""Connections to Redis that a process of each role may hold beside its pool.

A worker's wait for tasks and for remote control, Flower's receives events.
"""

COMMAND_CONNECTIONS = 1
"""Reserved on either server for migrations, `make doctor` and health checks, one at a time."""

LARGEST_COMPUTED_POOL = 10
"""Upper limit of a computed pool of an API process; more connections rarely make it faster."""

LABELS: dict[Role, str] = {
    "api": "API",
    "worker": "worker",
    "worker-child": "child of a worker",
    "beat": "beat",
    "flower": "Flower",
    "command": "command",
}


@dataclass(frozen=True)
class Line:
    """Processes of one kind, and the connections that each of them may hold."""

    label: str
    processes: int
    each: int
    """Connections that one of them may hold."""

    @property
    def connections(self) -> int:
        """Connections that the processes of this line may hold together."""
        return self.processes * self.each

    def __str__(self) -> str:
        return f"{self.processes} {self.label} x {self.each}"


@dataclass(frozen=True)
class Budget:
    """The connections that all processes may hold together, and their limit."""

    lines: tuple[Line, ...]
    limit: int
    limit_name: str

    @property
    def total(self) -> int:
        """All connections of all processes, one for commands included."""
        return sum(line.connections for line in self.lines) + COMMAND_CONNECTIONS

    @property
    def is_exceeded(self) -> bool:
        """Whether the processes may hold more connections than the limit."""
        return self.total > self.limit

    def spelled_out(self) -> str:
        """Spell out the sum: `1 API x 2 + 1 worker x 4 + 1 for commands = 7 of REDIS_… 30`."""
        lines = [str(line) for line in self.lines if line.connections]
        summands = " + ".join([*lines, f"{COMMAND_CONNECTIONS} for commands"])
        return f"{summands} = {self.total} of {self.limit_name} {self.limit}"


def redis_allowance(configuration: Settings, role: Role, *, children: int | None = None) -> int:
    """Connections to Redis that one process may hold, a prefork worker with its children.

    Args:
        configuration: the settings.
        role: of the process.
        children: of a worker; `CELERY_WORKER_CHILDREN` when left out.
    """
    if role == "command":
        return COMMAND_CONNECTIONS
    processes = 1
    if role == "worker":
        processes += configuration.CELERY_WORKER_CHILDREN if children is None else children
    return processes * configuration.REDIS_POOL_SIZE + LISTENING_CONNECTIONS[role]


def postgres_allowance(configuration: Settings, role: Role) -> int:
    """Connections to PostgreSQL that one process may hold, without a prefork worker's children."""
    match role:
        case "api":
            return postgres_pool_size(configuration) + configuration.POSTGRES_SYNC_POOL_SIZE
        case "worker" | "worker-child":
            return configuration.POSTGRES_SYNC_POOL_SIZE
        case "command":
            return COMMAND_CONNECTIONS
        case "beat" | "flower":
            return 0


def redis_budget(configuration: Settings, *, children: int | None = None) -> Budget:
    """The budget of connections to Redis, for the processes that the settings name.

    Args:
        configuration: the settings.
        children: of each worker; `CELERY_WORKER_CHILDREN` when left out.
    """
    worker = redis_allowance(configuration, "worker", children=children)
    return Budget(
        (
            Line("API", _api_processes(configuration), redis_allowance(configuration, "api")),
            Line("worker", configuration.CELERY_WORKERS, worker),
            Line("beat", configuration.CELERY_BEATS, redis_allowance(configuration, "beat")),
            Line("Flower", 1, redis_allowance(configuration, "flower")),
        ),
        configuration.REDIS_CONNECTION_LIMIT,
        "REDIS_CONNECTION_LIMIT",
    )


def postgres_budget(configuration: Settings, *, children: int | None = None) -> Budget:
    """The budget of connections to PostgreSQL; see `redis_budget`."""
    return Budget(
        (
            Line("API", _api_processes(configuration), postgres_pool_size(configuration)),
            Line("admin", _api_processes(configuration), configuration.POSTGRES_SYNC_POOL_SIZE),
            Line(
                "worker",
                _task_processes(configuration, children),
                configuration.POSTGRES_SYNC_POOL_SIZE,
            ),
        ),
        configuration.POSTGRES_CONNECTION_LIMIT,
        "POSTGRES_CONNECTION_LIMIT",
    )


def postgres_pool_size(configuration: Settings) -> int:
    """Size of one API process's pool for requests: as set, else its share of the limit.

    Admin, workers and commands come first; the rest is divided by the API's processes. It is at
    least 1, so the sum may still exceed the limit, and at most 10.
    """
    if configuration.POSTGRES_POOL_SIZE is not None:
        return configuration.POSTGRES_POOL_SIZE
    sync = configuration.POSTGRES_SYNC_POOL_SIZE
    left = configuration.POSTGRES_CONNECTION_LIMIT - COMMAND_CONNECTIONS
    left -= (_task_processes(configuration, None) + _api_processes(configuration)) * sync
    return max(1, min(left // _api_processes(configuration), LARGEST_COMPUTED_POOL))


def refuse_more_than_the_plan(configuration: Settings, *, children: int | None = None) -> None:
    """Check that the plan has enough connections for all processes, without asking a server.

    Raises:
        StartupError: with the sum spelled out and what to change, when it does not.
    """
    redis = redis_budget(configuration, children=children)
    postgres = postgres_budget(configuration, children=children)
    problems = []
    if redis.is_exceeded:
        problems.append(_explain("Redis", redis, redis_remedy()))
    if postgres.is_exceeded:
        problems.append(_explain("PostgreSQL", postgres, postgres_remedy(configuration)))
    if problems:
        raise StartupError(*problems)


def redis_remedy() -> str:
    """Remedy for a budget that exceeds the connections that Redis's plan allows."""
    return (
        "Run fewer processes (API_INSTANCES, API_WORKERS, CELERY_WORKERS, CELERY_WORKER_CHILDREN, "
        "CELERY_BEATS), or raise REDIS_CONNECTION_LIMIT if the plan allows more."
    )


def postgres_remedy(configuration: Settings) -> str:
    """Remedy for a budget that exceeds the connections that PostgreSQL's plan or pooler allows."""
    sizes = "POSTGRES_POOL_SIZE, " if configuration.POSTGRES_POOL_SIZE else ""
    return (
        f"Lower {sizes}API_INSTANCES, API_WORKERS or CELERY_WORKERS, or raise "
        "POSTGRES_CONNECTION_LIMIT if the plan allows more."
    )


def _explain(server: str, budget: Budget, remedy: str) -> str:
    return (
        f"the service's processes may hold more connections to {server} than it allows: "
        f"{budget.spelled_out()} ({where_set(budget.limit_name)}). {remedy}"
    )


def _api_processes(configuration: Settings) -> int:
    return configuration.API_INSTANCES * configuration.API_WORKERS


def _task_processes(configuration: Settings, children: int | None) -> int:
    """Number of processes that run tasks: workers, or their children where they have some."""
    forked = configuration.CELERY_WORKER_CHILDREN if children is None else children
    return configuration.CELERY_WORKERS * max(1, forked)


def redis_clients(client: redis.Redis) -> dict[ProcessName | None, list[int]] | None:
    """Ids of all connections to Redis, by the process that holds them.

    The server assigns ids in ascending order. Clients without a name of a process are under None.
    The whole is None where the plan forbids `CLIENT LIST`.

    Raises:
        redis.RedisError: when Redis cannot be reached.
    """
    try:
        rows = client.client_list()
    except redis.ResponseError:
        return None
    ids: dict[ProcessName | None, list[int]] = {}
    for row in rows:
        ids.setdefault(parse_process_name(row["name"]), []).append(int(row["id"]))
    return ids


def redis_limit(information: Mapping[str, Any]) -> tuple[int, str]:
    """Connections that Redis allows, and the limit's name: the lower of server and settings.

    Args:
        information: Redis's answer to `INFO clients`.
    """
    server_limit = int(information.get("maxclients") or settings.REDIS_CONNECTION_LIMIT)
    if server_limit < settings.REDIS_CONNECTION_LIMIT:
        return server_limit, "the server's maxclients"
    return settings.REDIS_CONNECTION_LIMIT, "REDIS_CONNECTION_LIMIT"


def refuse_more_than_redis_gives(*, children: int | None = None, starting: int = 1) -> None:
    """Check that Redis has room for this process beside those that are connected.

    Each is counted with all connections that it may hold. Of processes that start at the same
    moment, the one that connected first has precedence: later ones see it, so they cannot overlook
    each other.

    Nothing is refused where Redis cannot be asked: a process that finds no free slot waits for one,
    and where `CLIENT LIST` is forbidden, only the settings' sum is checked.

    Args:
        children: those that this process forks, if it is a worker.
        starting: how many of its kind are about to start, this one included.

    Raises:
        StartupError: with the sum spelled out, when there is no room.
    """
    try:
        client = redis_client()
        limit, limit_name = redis_limit(client.info("clients"))
        processes = redis_clients(client) or {}
    except (redis.RedisError, LimitExceeded) as error:
        logger.info("connected processes were not counted: %s", error)
        return
    own = processes.get(parse_process_name(client_name(settings, this_process.role)))
    if own is None:  # a proxy that hides names
        return
    before = {
        name: len(ids)
        for name, ids in processes.items()
        if name is not None and min(ids) < min(own)
    }
    allowance = redis_allowance(settings, this_process.role, children=children)
    budget = Budget(_lines(before, allowance, starting), limit, limit_name)
    if budget.is_exceeded:
        raise StartupError(
            f"with this {LABELS[this_process.role]}, the processes that are connected to Redis may "
            f"hold more connections than it allows: {budget.spelled_out()}. Stop one of them first "
            "(`make connections` lists them), or choose a larger plan."
        )


def _lines(before: dict[ProcessName, int], own_allowance: int, starting: int) -> tuple[Line, ...]:
    """The processes of this service by role; other services with the connections that they hold."""
    roles: Counter[tuple[Role, int]] = Counter()
    others = children = 0
    own_service = service_name(settings)
    for name, connections in before.items():
        role: Role | None = next((r for r in get_args(Role) if r == name.role), None)
        if name.service != own_service or role is None:
            others += connections
        elif role == "worker-child":
            children += 1
        elif role != "command":  # short-lived; one is always counted
            allowance = redis_allowance(settings, role)
            # Two containers that share a host's name may share a process id too.
            roles[role, allowance] += -(-connections // allowance)
    expected = settings.CELERY_WORKER_CHILDREN * sum(
        count for (role, _), count in roles.items() if role == "worker"
    )
    roles["worker-child", redis_allowance(settings, "worker-child")] = max(0, children - expected)
    roles[this_process.role, own_allowance] += starting
    lines = [Line(LABELS[role], count, each) for (role, each), count in roles.items()]
    return (*lines, Line("other service", 1, others))


def begin_process(role: Role, *, children: int | None = None) -> None:
    """Set the role of this process, start its embedded servers, and check that it fits the budget.

    Args:
        role: of this process.
        children: processes that it forks, if it is a worker.

    Raises:
        StartupError: when the plan or Redis has no room for it, or a server cannot be started.
    """
    refuse_more_than_the_plan(settings, children=children)
    if role == "api":
        _refuse_undeclared_workers()
    this_process.become(role)
    start_local_services()
    refuse_more_than_redis_gives(children=children)


def _refuse_undeclared_workers() -> None:
    """Check that the plan allows the processes that `uvicorn --workers` has started beside us.

    Each has pools of the size that suits `API_WORKERS`, so more of them may exceed the plan.
    """
    # uvicorn passes its configuration to each of its processes; nothing else says their number.
    server = getattr(multiprocessing.current_process(), "_kwargs", {}).get("config")
    workers: int = getattr(server, "workers", 1)
    if workers <= settings.API_WORKERS or getattr(server, "should_reload", False):
        return
    sizes = {"API_WORKERS": workers, "POSTGRES_POOL_SIZE": postgres_pool_size(settings)}
    try:
        refuse_more_than_the_plan(settings.model_copy(update=sizes))
    except StartupError as error:
        raise StartupError(
            f"uvicorn runs {workers} processes, but API_WORKERS is {settings.API_WORKERS} "
            f"({where_set('API_WORKERS')}): set API_WORKERS={workers}, by which connections are "
            "divided, and start with `python -m kit.commands.serve`.",
            error.message,
        ) from None


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
    plan: Budget
    """Its limit is the server's, where that is lower than the settings'."""
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
        return self.in_use is not None and self.in_use > self.plan.limit


def count_redis(client: redis.Redis) -> Census:
    """Count the connections to Redis, by the process that holds them.

    Raises:
        redis.RedisError: when it cannot be reached.
    """
    information: dict[str, Any] = client.info("clients")
    limit, limit_name = redis_limit(information)
    plan = replace(redis_budget(settings), limit=limit, limit_name=limit_name)
    clients = redis_clients(client)
    if clients is None:
        in_use = information["connected_clients"]
        note = "this Redis does not show whose they are: it forbids CLIENT LIST"
        return Census((), in_use, plan, note)
    allowances = {role: redis_allowance(settings, role) for role in get_args(Role)}
    # A prefork worker's allowance includes its children's, which hold their own part here.
    allowances["worker"] = redis_allowance(settings, "worker", children=0)
    # A command uses one connection at a time, so the budget counts one; its pool is as all others.
    allowances["command"] = settings.REDIS_POOL_SIZE
    held = {name: len(ids) for name, ids in clients.items()}
    holders = _holders(held, service_name(settings), allowances)
    return Census(holders, sum(held.values()), plan)


async def count_postgres(connection: AsyncConnection) -> Census:
    """Count the connections to PostgreSQL, this one included, by the process that holds them."""
    names = list(await connection.scalars(POSTGRES_CLIENTS))
    plan = postgres_budget(settings)
    if settings.pooler_mode != "none":
        note = (
            f"behind the pooler in {settings.pooler_mode} mode PostgreSQL sees the pooler's "
            f"connections, {len(names)} now, not whose they are"
        )
        return Census((), None, plan, note)
    allowances = {role: postgres_allowance(settings, role) for role in get_args(Role)}
    service = service_name(settings)[:POSTGRES_SERVICE_BYTES]
    held = Counter(map(parse_process_name, names))
    holders = _holders(held, service, allowances)
    return Census(holders, len(names), plan)


def _holders(
    held: Mapping[ProcessName | None, int], service: str, allowances: Mapping[Role, int]
) -> tuple[Holder, ...]:
    """Each process of the service in the order of its role, then all other clients."""
    holders = [
        Holder(role, name.host, name.pid, connections, allowance)
        for role, allowance in allowances.items()
        for name, connections in sorted((name, n) for name, n in held.items() if name)
        if (name.service, name.role) == (service, role)
    ]
    if others := sum(held.values()) - sum(each.connections for each in holders):
        holders.append(Holder("others", "", None, others, None))
    return tuple(holders)

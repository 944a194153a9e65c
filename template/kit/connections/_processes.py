"""The processes that are connected to Redis, and whether it has room for one more.

The settings define how many processes there should be; one that was started beside them, for
example by `docker compose up --scale`, is only seen here.
"""

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import redis
from kombu.exceptions import LimitExceeded

from kit.connections._budget import (
    LABELS,
    Budget,
    Line,
    postgres_pool_size,
    redis_allowance,
    refuse_more_than_the_plan,
)
from kit.process import (
    ProcessName,
    Role,
    client_name,
    parse_process_name,
    service_name,
    start_local_services,
    this_process,
)
from kit.redis import redis_client
from kit.settings import StartupError, settings, where_set


class RedisClient(NamedTuple):
    """One connection to Redis."""

    id: int
    """Assigned by the server, in ascending order."""
    process: ProcessName | None
    """The process that holds it; None for a client without a name of this form."""


def redis_clients(client: redis.Redis) -> list[RedisClient] | None:
    """List every connection to Redis; None where the plan forbids `CLIENT LIST`.

    Raises:
        redis.RedisError: when Redis cannot be reached.
    """
    try:
        rows = client.client_list()
    except redis.ResponseError:
        return None
    return [RedisClient(int(row["id"]), parse_process_name(row["name"])) for row in rows]


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConnectedProcess:
    """A process that holds connections to Redis."""

    name: ProcessName
    connections: int
    first_id: int
    """Number of its oldest connection; the server assigns them in ascending order."""


def connected_processes(clients: Iterable[RedisClient]) -> list[ConnectedProcess]:
    """Group connections by the processes of this and other services; other clients are left out."""
    ids: dict[ProcessName, list[int]] = {}
    for client in clients:
        if client.process:
            ids.setdefault(client.process, []).append(client.id)
    return [ConnectedProcess(name, len(each), min(each)) for name, each in ids.items()]


def redis_limit(client: redis.Redis) -> tuple[int, str]:
    """Connections that Redis allows, and the limit's name: the lower of server and settings.

    Raises:
        redis.RedisError: when it cannot be reached, or forbids the question.
    """
    information: dict[str, Any] = client.info("clients")
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
        limit, limit_name = redis_limit(client)
        processes = connected_processes(redis_clients(client) or ())
    except (redis.RedisError, LimitExceeded) as error:
        logger.info("connected processes were not counted: %s", error)
        return
    own_name = parse_process_name(client_name(settings, this_process.role))
    own = next((each for each in processes if each.name == own_name), None)
    if own is None:  # a proxy that hides names
        return
    before = [each for each in processes if each.first_id < own.first_id]
    allowance = redis_allowance(settings, this_process.role, children=children)
    budget = Budget(_lines(before, allowance, starting), limit, limit_name)
    if budget.is_exceeded:
        raise StartupError(
            f"with this {LABELS[this_process.role]}, the processes that are connected to Redis may "
            f"hold more connections than it allows: {budget.spelled_out()}. Stop one of them first "
            "(`make connections` lists them), or choose a larger plan."
        )


def _lines(before: list[ConnectedProcess], own_allowance: int, starting: int) -> tuple[Line, ...]:
    """The processes of this service by role; other services with the connections that they hold."""
    roles: Counter[tuple[Role, int]] = Counter()
    others = children = 0
    own_service = service_name(settings)
    for process in before:
        role: Role | None = next((r for r in get_args(Role) if r == process.name.role), None)
        if process.name.service != own_service or role is None:
            others += process.connections
        elif role == "worker-child":
            children += 1
        elif role != "command":  # short-lived; one is always counted
            allowance = redis_allowance(settings, role)
            # Two containers that share a host's name may share a process id too.
            roles[role, allowance] += -(-process.connections // allowance)
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

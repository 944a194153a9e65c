"""The budget: how many connections the service's processes may hold, as its settings define it.

The one source for the size of the pools, the refusal to start more processes than the plan allows,
`make doctor` and `make connections`. All numbers are upper bounds that the pools keep.
"""

from dataclasses import dataclass

from kit.process import Role
from kit.settings import Settings, StartupError, where_set

LISTENING_CONNECTIONS: dict[Role, int] = {
    "api": 0,
    "worker": 2,  # one waits for tasks, one for remote control
    "worker-child": 0,
    "beat": 0,
    "flower": 1,  # receives events
    "command": 0,
}
"""Connections to Redis that a process of each role may hold beside its pool."""

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

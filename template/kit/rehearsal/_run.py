"""A rehearsal: what each route costs, which limit should end first, and which one did."""

import asyncio
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kit.connections import postgres_pool_size
from kit.rehearsal._running import (
    Plan,
    Route,
    Running,
    api_processes,
    is_success,
    pooler_mode,
    running_service,
    task_processes,
)
from kit.settings import Settings, StartupError

USED = (
    *("processor", "database", "sync_database", "pooler", "threads", "redis", "operations"),
    "worker",
)

IDLE_SECONDS = 6
"""Longer than a round of beat's, in which it asks Redis once for what is due."""

LONGEST_TASKS = 5.0
"""Seconds of tasks that measuring one route may leave to a worker."""

FOLLOWS = 0.92
"""Share of the requests that are served in time while the service follows."""

USED_UP = 0.8
"""Share of a limit in use from which it is no coincidence that the service does not follow."""

FACTORS = (0.6, 0.8, 0.95, 1.1, 1.3, 1.6, 2, 2.5, 3.2, 4)

WITHOUT_ROUTES = Route("POST", "/api/tasks/ping", "{}")
"""What is rehearsed while the service has no routes of its own."""

THREADS = 40
"""Of AnyIO, which run sync endpoints. Source:
https://www.starlette.io/threadpool/
"""

Amounts = Mapping[str, float]
"""Seconds, operations and bytes by what they are of: see `Running.reading`."""


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


@dataclass
class Report:
    """What came of a rehearsal."""

    routes: dict[str, dict[str, float]]
    """What one request of each costs, alone."""
    limits: list[Limit]
    """The first to end first."""
    rate: float = 0
    """Requests a second that were served when more were asked for."""
    share: float = 1
    """What the API got of the processor time that it was ready to use, in the last step."""
    in_use: dict[str, float] = field(default_factory=dict)
    """By limit, the share of it that was in use then."""
    has_ended: bool = False
    """Whether the service stopped following."""
    failures: dict[str, int] = field(default_factory=dict)
    connections: dict[str, str] = field(default_factory=dict)
    """By server, the most that were open, and what there is."""
    notes: list[str] = field(default_factory=list)

    @property
    def predicted(self) -> Limit:
        """The limit that ends first; not memory, which fills over as long as results are kept."""
        return next(each for each in self.limits if each.key != "memory")

    @property
    def expected(self) -> float:
        """The predicted rate, with the share of the processor that the API got."""
        return self.predicted.rate * (self.share if self.predicted.key == "processor" else 1)

    @property
    def found(self) -> Limit | None:
        """The limit that was used up in the last step; None where none of them was.

        Of several it is the one that ends first by what requests cost: who waits for that one
        holds others meanwhile.
        """
        used_up = (each for each in self.limits if self.in_use.get(each.key, 0) > USED_UP)
        return next(used_up, None) if self.has_ended else None


def parse_route(text: str) -> Route:
    """Read a route as it is typed: `[TIMES] METHOD PATH [JSON]`.

    Raises:
        ValueError: when it is none.
    """
    found = re.fullmatch(r"(?:(\d{1,4}) +)?([A-Z]+) +(/\S*)(?: +(.+))?", text.strip(), re.DOTALL)
    if not found:
        raise ValueError(
            f"{text!r} is no route, expected as 'GET /api/orders', 'POST /api/orders "
            '{"number": "R-{n}"}\' or, three times as often as others, \'3 GET /api/orders\''
        )
    times, method, path, body = found.groups()
    return Route(method, path, body or "", int(times or 1))


async def rehearse(
    settings: Settings,
    plan: Plan,
    routes: Sequence[Route] = (),
    *,
    only: bool = False,
    rows: int = 200,
    say: Callable[[str], None] = print,
) -> Report:
    """Start a copy of the service, and raise the load on it.

    Args:
        settings: with which it runs.
        plan: of its servers.
        routes: beside those of the API's document that read.
        only: whether nothing but `routes` is asked for.
        rows: made-up rows of each table that has a factory.
        say: reports progress.

    Raises:
        StartupError: when the service does not start, or no route is answered with success.
    """
    say("Starting servers, API, worker and beat ...")
    async with running_service(settings, plan, rows) as running:
        say(running.seeded)
        found = [] if only else await _reading_routes(running)
        every = [*routes, *(each for each in found if each not in routes)]
        asked, left_out = await _answered(running, every or [WITHOUT_ROUTES])
        if not asked:
            raise StartupError("no route was answered with success:", *left_out)
        rehearsal = Rehearsal(running, settings, plan, say)
        await rehearsal.rest()
        report = await rehearsal.of(asked)
    report.notes += [f"Left out: {each}" for each in left_out]
    return report


async def _reading_routes(running: Running) -> list[Route]:
    """Those of the API's document; an id in a path is that of the first row of the list before."""
    document = await running.caller.json(Route("GET", "/openapi.json")) or {"paths": {}}
    reads = [path for path, verbs in document["paths"].items() if "get" in verbs]
    routes = []
    for path in reads:
        if path.startswith(("/health/", "/api/tasks/")):
            continue
        listing, has_id, rest = path.partition("/{")
        key = None
        if has_id and listing in reads and rest.endswith("}") and "/" not in rest:
            key = _first_id(await running.caller.json(Route("GET", listing)))
        routes.append(Route("GET", path if key is None else f"{listing}/{key}"))
    return routes


def _first_id(listed: Any) -> Any:
    """The id of the first row in a list, or in the list that an object has beside a cursor."""
    values = [*listed.values()] if isinstance(listed, dict) else [listed]
    rows = next((each for each in values if isinstance(each, list) and each), [None])
    return rows[0].get("id") if isinstance(rows[0], dict) else None


async def _answered(running: Running, routes: Sequence[Route]) -> tuple[list[Route], list[str]]:
    """Those that are answered with success, and the others with their answers."""
    asked, left_out = [], []
    for route in routes:
        if "{" in route.path.replace("{n}", ""):
            left_out.append(f"{route}, whose parameter is not known: name it with --route")
            continue
        status, body = await running.caller.call(route)
        if is_success(status):
            asked.append(route)
        else:
            left_out.append(
                f"{route}, answered with {status} {body.decode(errors='replace')[:200]}"
            )
    return asked, left_out


@dataclass
class Rehearsal:
    """Loads on one running copy.

    Args:
        running: the copy.
        settings: with which it runs.
        plan: of its servers.
        say: reports progress.
        seconds: of a step of the load.
        factors: of the predicted rate, one for each step.
    """

    running: Running
    settings: Settings
    plan: Plan
    say: Callable[[str], None]
    seconds: float = 4
    factors: Sequence[float] = FACTORS
    _idle: dict[str, float] = field(default_factory=dict)

    async def rest(self) -> None:
        """Measure what is used each second while no one asks for anything."""
        await self.running.settle()
        before = self.running.reading()
        await asyncio.sleep(IDLE_SECONDS)
        after = self.running.reading()
        seconds = after["time"] - before["time"]
        self._idle = {key: (after[key] - before[key]) / seconds for key in USED}
        self._idle["memory"] = self.running.redis.info("memory")["used_memory"]

    async def of(self, routes: Sequence[Route]) -> Report:
        """Measure each route alone, and raise the load of all of them."""
        self.say(f"Measuring {len(routes)} routes, each alone ...")
        self.running.redis_link.most_a_second = None
        costs = {each: await self._cost(each, min(1.2, 30 / len(routes))) for each in routes}
        weights = sum(route.weight for route in routes)
        cost = {
            key: sum(route.weight * each[key] for route, each in costs.items()) / weights
            for key in costs[routes[0]]
        }
        workers = max(1, self.running.workers)
        cost["last"] = max(each["latency"] + each["worker"] / workers for each in costs.values())
        every = limits(self.settings, self.plan, cost, self._idle)
        report = Report({str(route): each for route, each in costs.items()}, every)
        first = report.predicted
        self.say(f"{first.name} should end first, at {first.rate:.3g}/s. Raising the load ...")
        self.running.redis_link.most_a_second = self.plan.redis_operations
        for factor in self.factors:
            rate = first.rate * factor
            seconds = min(max(self.seconds, 12 / rate, 5 * cost["latency"]), 5 * self.seconds)
            served = await self._step(routes, rate, seconds, cost, report)
            self.say(f"  {rate:8.3g}/s asked for, {served:8.3g}/s served")
            if served < FOLLOWS * rate:
                report.has_ended = True
                break
        served = await self._step(routes, rate, 2 * seconds, cost, report)
        if not report.has_ended:
            report.rate = served
        for name, link in (
            ("Redis", self.running.redis_link),
            ("PostgreSQL", self.running.postgres),
        ):
            refused = f", {link.refused} refused" * bool(link.refused)
            report.connections[name] = f"{link.most} of {link.connections}{refused}"
        return report

    async def _cost(self, route: Route, seconds: float) -> dict[str, float]:
        """What one request takes, its tasks included."""
        running = self.running
        begun = running.reading()["time"]
        for _ in range(3):
            await running.caller.call(route)
        one = (await running.settle() - begun) / 3
        keys, before = running.keys(), running.reading()
        most = max(4, LONGEST_TASKS / one)
        outcome = await running.caller.put_load([route], 1e6, seconds, most=2, requests=most)
        await running.settle()
        after = running.reading()
        if not outcome.good:
            raise StartupError(f"{route} is no longer answered: {dict(outcome.failures)}")
        cost = {}
        for key in USED:
            used, took = after[key] - before[key], after["time"] - before["time"]
            idle = self._idle[key]
            # Beat's next round, or the heartbeat's task, may fall into this time by chance.
            is_more = used > idle * (1.5 * took + 3)
            cost[key] = (used - idle * took) / outcome.good if is_more else 0
        cost["memory"] = running.bytes_of(running.keys() - keys) / outcome.good
        return cost | {"latency": outcome.latency / outcome.good}

    async def _step(
        self,
        routes: Sequence[Route],
        rate: float,
        seconds: float,
        cost: dict[str, float],
        report: Report,
    ) -> float:
        """Ask at a rate; the rate of those that were served, their tasks included.

        To tell whether the service follows, what the last request and its task take does not count.
        """
        running = self.running
        await running.settle()
        running.redis_link.use_up()
        before = running.reading()
        most = max(8, math.ceil(2 * rate * cost["latency"]))
        outcome = await running.caller.put_load(routes, rate, seconds, most=most)
        answered = running.reading()
        done = await running.settle()
        after = running.reading() if done > answered["time"] else answered
        took = max(done, answered["time"]) - before["time"]
        used = {key: (after[key] - before[key]) / took for key in (*USED, "delayed")}
        ready = used["processor"] + used["delayed"]
        report.share = used["processor"] / ready if ready else 1
        used["processor"] = ready
        report.in_use = {
            each.key: min(1, used[each.key] / max(each.capacity, 1e-9))
            for each in report.limits
            if each.key != "memory"
        }
        report.failures = dict(outcome.failures)
        report.rate = outcome.good / took
        return outcome.good / max(took - cost["last"], seconds)

"""Metrics of the stack: queues, connections, outboxes and migrations, and the pools of a process.

They are read when metrics are collected, and cost nothing in between. A value that there is not
now, such as the age of beat's lock without a beat, is left out.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from sqlalchemy import QueuePool

from app.core.database import engine, sync_engine
from app.extensions.telemetry.settings import telemetry_settings
from kit.connections import Census
from kit.outbox import FAILURES
from kit.process import pool_use
from kit.redis import GIVEN_UP, REDELIVERED
from kit.status import DatabaseReading, RedisReading, ServiceStatus, read_status


class Metric(NamedTuple):
    """What a metric is; a counter only grows while the process, or Redis, has its data."""

    kind: Literal["gauge", "counter"]
    unit: str
    description: str


STACK_METRICS = {
    "stack.up": Metric("gauge", "1", "Whether the server answered, and takes writes: 1 or 0."),
    "stack.queue.waiting": Metric("gauge", "{task}", "Tasks that wait in the queue."),
    "stack.queue.oldest.age": Metric("gauge", "s", "Time since the oldest of them was sent."),
    "stack.tasks.unacknowledged": Metric("gauge", "{task}", "Tasks that workers run or keep."),
    "stack.tasks.dead": Metric("gauge", "{task}", "Tasks given up, of the last 100."),
    "stack.tasks.given.up": Metric("counter", "{task}", "Tasks that were given up."),
    "stack.tasks.redelivered": Metric("counter", "{task}", "Deliveries after a lost worker."),
    "stack.beat.lock.age": Metric("gauge", "s", "Time since beat renewed its lock."),
    "stack.heartbeat.age": Metric("gauge", "s", "Time since a worker ran beat's heartbeat."),
    "stack.redis.memory.used": Metric("gauge", "By", "Memory that Redis uses."),
    "stack.redis.memory.limit": Metric("gauge", "By", "Memory that Redis may use."),
    "stack.redis.operations": Metric("gauge", "{operation}/s", "Operations of all clients."),
    "stack.connections.used": Metric("gauge", "{connection}", "Connections of all clients."),
    "stack.connections.limit": Metric("gauge", "{connection}", "Connections of the plan."),
    "stack.connections.budget": Metric("gauge", "{connection}", "What all processes may hold."),
    "stack.connections.held": Metric("gauge", "{connection}", "What processes of a role hold."),
    "stack.connections.over": Metric("gauge", "{process}", "Processes that hold too many."),
    "stack.outbox.waiting": Metric("gauge", "{row}", "Rows to be sent, of 10,000 at most."),
    "stack.outbox.overdue": Metric("gauge", "s", "For how long the first of them is due."),
    "stack.outbox.failed": Metric("counter", "{row}", "Rows that were given up."),
    "stack.migrations.missing": Metric("gauge", "{migration}", "Heads that are not applied."),
}

POOL_METRICS = {
    "pool.size": Metric("gauge", "{connection}", "Connections that the process may hold."),
    "pool.used": Metric("gauge", "{connection}", "Connections that are in use."),
    "pool.waits": Metric("counter", "{caller}", "Callers that found all of them in use."),
    "pool.wait.time": Metric("counter", "s", "Time that those callers waited."),
    "pool.timeouts": Metric("counter", "{caller}", "Callers that got none in time."),
    "pool.refusals": Metric("counter", "{connection}", "Connections that the server refused."),
}

Point = tuple[str, float | None, dict[str, str]]
"""Name of a metric, value, attributes."""


class StackMetrics:
    """The instruments; those of the stack have values once `status` has been set."""

    status: ServiceStatus | None = None

    def register(self, meter: Meter) -> None:
        """Make the instruments."""
        for metrics, read in ((STACK_METRICS, self._stack_points), (POOL_METRICS, pool_points)):
            for name, (kind, unit, description) in metrics.items():
                create: Any = getattr(meter, f"create_observable_{kind}")
                create(name, [partial(_observe, name, read)], unit, description)

    async def follow(self) -> None:
        """Read the status before each export, until this is cancelled."""
        while True:
            self.status = await read_status()
            await asyncio.sleep(telemetry_settings.metric_export_seconds)

    def _stack_points(self) -> Iterator[Point]:
        return stack_points(self.status) if self.status else iter(())


def _observe(name: str, read: Any, _: CallbackOptions) -> Iterable[Observation]:
    for found, value, attributes in read():
        if found == name and value is not None:
            yield Observation(value, attributes)


stack_metrics = StackMetrics()


def stack_points(status: ServiceStatus) -> Iterator[Point]:
    """All values of `STACK_METRICS`."""
    for server, reading in (("redis", status.redis), ("postgresql", status.database)):
        is_up = reading is not None and not getattr(reading, "is_read_only", False)
        yield "stack.up", int(is_up), {"server": server}
        if reading:
            yield from _connection_points(server, reading.connections)
    if status.redis:
        yield from _redis_points(status.redis)
    if status.database:
        yield from _database_points(status.database)
    if status.redis and status.database:
        for backlog in status.database.backlogs:  # 0 as well: a rate needs a value before the first
            failed = status.redis.status.counts.get(f"{FAILURES}{backlog.table}", 0)
            yield "stack.outbox.failed", failed, {"table": backlog.table}


def _connection_points(server: str, census: Census) -> Iterator[Point]:
    at = {"server": server}
    yield "stack.connections.used", census.in_use, at
    yield "stack.connections.limit", census.plan.limit, at
    yield "stack.connections.budget", census.plan.total, at
    yield "stack.connections.over", sum(each.is_over for each in census.holders), at
    held: Counter[str] = Counter()
    for holder in census.holders:
        held[holder.role] += holder.connections
    for role, connections in held.items():
        yield "stack.connections.held", connections, at | {"role": role}


def _redis_points(reading: RedisReading) -> Iterator[Point]:
    status = reading.status
    for queue in status.queues:
        at = {"queue": queue.name}
        yield "stack.queue.waiting", queue.waiting, at
        # None waits, or its age is unknown: of a sender that is not this kit's.
        yield "stack.queue.oldest.age", queue.oldest_age_seconds or 0, at
    yield "stack.tasks.unacknowledged", status.unacknowledged, {}
    yield "stack.tasks.dead", status.dead_letters, {}
    yield "stack.tasks.given.up", status.counts.get(GIVEN_UP, 0), {}
    yield "stack.tasks.redelivered", status.counts.get(REDELIVERED, 0), {}
    yield "stack.beat.lock.age", status.beat_lock_age_seconds, {}
    yield "stack.heartbeat.age", status.heartbeat_age_seconds, {}
    yield "stack.redis.memory.used", status.used_memory_bytes, {}
    yield "stack.redis.memory.limit", status.memory_limit_bytes, {}
    yield "stack.redis.operations", status.operations_per_second, {}


def _database_points(reading: DatabaseReading) -> Iterator[Point]:
    for backlog in reading.backlogs:
        at = {"table": backlog.table}
        yield "stack.outbox.waiting", backlog.waiting, at
        yield "stack.outbox.overdue", backlog.overdue_seconds, at
    yield "stack.migrations.missing", len(reading.missing_migrations), {}


def pool_points() -> Iterator[Point]:
    """All values of `POOL_METRICS`, of this process."""
    for each in (engine.sync_engine, sync_engine):
        if isinstance(pool := each.pool, QueuePool):
            yield "pool.size", pool.size(), {"pool": each.driver}
            yield "pool.used", pool.checkedout(), {"pool": each.driver}
    for driver, use in pool_use.items():
        at = {"pool": driver}
        yield "pool.waits", use.waits, at
        yield "pool.wait.time", use.wait_seconds, at
        yield "pool.timeouts", use.timeouts, at
        yield "pool.refusals", use.refusals, at

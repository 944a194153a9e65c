from dataclasses import replace

import pytest

from app.extensions.telemetry.stack_metrics import (
    POOL_METRICS,
    STACK_METRICS,
    pool_points,
    stack_points,
)
from kit.connections import Holder
from kit.outbox import Backlog
from kit.queue import QueueStatus
from kit.status import ServiceStatus, read_status


@pytest.fixture
async def busy(test_database: str) -> ServiceStatus:
    """The state of this service, with something of everything."""
    status = await read_status(max_age=0)
    assert status.redis
    assert status.database
    redis = replace(
        status.redis.status,
        queues=(QueueStatus("celery", 3, 40.0), QueueStatus("slow", 1, None)),
        unacknowledged=2,
        dead_letters=5,
        beat_lock_age_seconds=4.0,
        heartbeat_age_seconds=30.0,
        memory_limit_bytes=30 * 2**20,
        counts={"tasks-redelivered": 7, "tasks-given-up": 6, "failed:sms": 2},
    )
    holders = (
        Holder("api", "a", 1, 2, 2),
        Holder("api", "b", 1, 3, 2),
        Holder("others", "", None, 9, None),
    )
    return replace(
        status,
        redis=replace(
            status.redis,
            status=redis,
            connections=replace(status.redis.connections, holders=holders),
        ),
        database=replace(
            status.database,
            backlogs=(Backlog("sms", 4, 60.0), Backlog("fax", 0, 0.0)),
            missing_migrations=("0002",),
        ),
    )


def values(status: ServiceStatus) -> dict[tuple[str, ...], float | None]:
    return {(name, *attributes.values()): value for name, value, attributes in stack_points(status)}


async def test_each_value_is_that_of_the_status(busy: ServiceStatus) -> None:
    found = values(busy)
    assert (
        found.items()
        >= {
            ("stack.queue.waiting", "celery"): 3,
            ("stack.queue.oldest.age", "celery"): 40,
            ("stack.queue.oldest.age", "slow"): 0,
            ("stack.tasks.unacknowledged",): 2,
            ("stack.tasks.dead",): 5,
            ("stack.tasks.given.up",): 6,
            ("stack.tasks.redelivered",): 7,
            ("stack.connections.held", "redis", "api"): 5,
            ("stack.connections.held", "redis", "others"): 9,
            ("stack.connections.over", "redis"): 1,
            ("stack.outbox.waiting", "sms"): 4,
            ("stack.outbox.overdue", "sms"): 60,
            ("stack.outbox.failed", "sms"): 2,
            ("stack.outbox.failed", "fax"): 0,
            ("stack.migrations.missing",): 1,
        }.items()
    )


async def test_all_that_are_described_are_there_and_no_others(busy: ServiceStatus) -> None:
    assert {name for name, *_ in values(busy)} == STACK_METRICS.keys()
    assert {name for name, _, _ in pool_points()} == POOL_METRICS.keys()


async def test_a_database_that_takes_no_writes_is_not_up(busy: ServiceStatus) -> None:
    assert busy.database
    found = values(replace(busy, database=replace(busy.database, is_read_only=True)))
    assert found["stack.up", "postgresql"] == 0
    assert found["stack.migrations.missing",] == 1


async def test_of_a_server_that_is_away_only_that_is_told(busy: ServiceStatus) -> None:
    found = values(replace(busy, redis=None))
    assert found["stack.up", "redis"] == 0
    assert found["stack.up", "postgresql"] == 1
    assert not any(name.startswith(("stack.queue", "stack.redis")) for name, *_ in found)
    assert found["stack.migrations.missing",] == 1

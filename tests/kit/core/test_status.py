import asyncio
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asyncpg import PostgresError  # type: ignore[import-untyped]
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.celery import celery_app
from app.core.config import settings
from kit import status as status_module
from kit.database import name_connections
from kit.places import service
from kit.process import PoolUse, pool_use
from kit.queue import QueueStatus, ping, read_redis_status
from kit.redis import count_event, queue_keys
from kit.redis._pool import RedisPoolBusyError, redis_client
from kit.status import MAX_AGE_SECONDS, ServiceStatus, StatusReader, read_status
from kit.testing import change_settings
from kit.testing._processes import RedisServer


@pytest.fixture(autouse=True)
def no_earlier_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "_reader", StatusReader())


def waiting_in(name: str) -> QueueStatus:
    [queue] = [each for each in read_redis_status().queues if each.name == name]
    return queue


class TestQueues:
    @pytest.fixture(autouse=True)
    def server(self, use_redis: Callable[..., RedisServer]) -> RedisServer:
        return use_redis()

    def test_an_empty_one_has_no_oldest_task(self) -> None:
        assert waiting_in("celery") == QueueStatus("celery", 0, None)

    def test_waiting_tasks_are_counted_and_the_oldest_has_an_age(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ping.delay("first")
        for priority in (0, 9):
            ping.apply_async(("later",), priority=priority)
        an_hour_later = time.time() + 3600
        monkeypatch.setattr("kit.queue._tasks.time", SimpleNamespace(time=lambda: an_hour_later))
        found = waiting_in("celery")
        assert found.waiting == 3
        assert found.oldest_age_seconds == pytest.approx(3600, abs=60)

    @pytest.mark.parametrize(
        "routes", [{"a.task": {"queue": "slow"}}, {"b.*": {"queue": "slow"}}], ids=str
    )
    def test_queues_of_routes_are_counted(
        self, monkeypatch: pytest.MonkeyPatch, routes: dict[str, Any]
    ) -> None:
        changes: Any = celery_app.conf.changes
        monkeypatch.setitem(changes, "task_routes", routes)
        ping.apply_async(("there",), queue="slow")
        assert waiting_in("slow").waiting == 1
        assert waiting_in("celery").waiting == 0

    def test_the_keys_are_those_of_the_library(self) -> None:
        with celery_app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            expected = [
                f"{settings.REDIS_KEY_PREFIX}{channel._q_for_pri('celery', each)}"
                for each in channel.priority_steps
            ]
        assert queue_keys("celery") == expected

    def test_a_message_of_another_sender_has_no_age(self) -> None:
        redis_client().lpush(queue_keys("celery")[0], "no message", '{"headers": {}}')
        assert waiting_in("celery") == QueueStatus("celery", 2, None)

    def test_events_are_counted(self) -> None:
        for _ in range(3):
            count_event("failed:parcel")
        assert read_redis_status().counts == {"failed:parcel": 3}

    def test_an_event_that_cannot_be_counted_fails_no_one(self, server: RedisServer) -> None:
        server.kill()
        count_event("failed:parcel")


class TestPoolUse:
    """What callers of the pools met with."""

    @pytest.fixture(autouse=True)
    def counted_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for driver in ("asyncpg", "psycopg2", "redis"):
            monkeypatch.setitem(pool_use, driver, PoolUse())

    async def test_a_wait_for_a_connection_of_a_request(self, test_database: str) -> None:
        engine = create_async_engine(
            settings.DATABASE_URL,
            connect_args=settings.database_connect_args,
            pool_size=1,
            max_overflow=0,
            pool_timeout=0.2,
        )
        name_connections(engine.sync_engine)
        use = pool_use["asyncpg"]
        async with engine.connect():
            assert use == PoolUse()
            with pytest.raises(PoolTimeoutError):
                await engine.connect()
        assert (use.waits, use.timeouts) == (1, 1)
        assert 0.1 < use.wait_seconds < 30

        await engine.dispose()  # which makes another pool
        async with engine.connect():
            waiting = asyncio.create_task(_connect_once(engine))
            await asyncio.sleep(0.05)
        await waiting
        assert (use.waits, use.timeouts, use.refusals) == (2, 1, 0)
        await engine.dispose()

    def test_a_wait_in_the_admin_or_a_task(self, test_database: str) -> None:
        engine = create_engine(
            settings.SYNC_DATABASE_URL,
            connect_args=settings.sync_connect_args,
            pool_size=1,
            max_overflow=0,
            pool_timeout=0.01,
        )
        name_connections(engine)
        with engine.connect(), pytest.raises(PoolTimeoutError):
            engine.connect()
        assert (pool_use["psycopg2"].waits, pool_use["psycopg2"].timeouts) == (1, 1)
        engine.dispose()

    async def test_what_the_server_refuses_since_it_has_no_connection_left(
        self, test_database: str, guest: str
    ) -> None:
        engine = create_async_engine(
            make_url(settings.DATABASE_URL).set(username=guest, password="guest"),
            connect_args=settings.database_connect_args,
        )
        name_connections(engine.sync_engine)
        with pytest.raises((DBAPIError, PostgresError), match="too many connections"):
            await engine.connect()
        assert pool_use["asyncpg"].refusals == 1

    @pytest.fixture
    def guest(self, test_database: str) -> Iterator[str]:
        """A login to the database that may have no connection."""
        engine = create_engine(
            settings.SYNC_DATABASE_URL,
            isolation_level="AUTOCOMMIT",
            connect_args=settings.sync_connect_args,
        )
        with engine.connect() as connection:
            run = connection.exec_driver_sql
            name = f"{make_url(test_database).database}_guest"
            run(f"CREATE ROLE {name} LOGIN PASSWORD 'guest' CONNECTION LIMIT 0")
            yield name
            run(f"DROP ROLE {name}")
        engine.dispose()

    def test_a_wait_for_a_connection_to_redis(
        self, use_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, REDIS_POOL_SIZE=1, REDIS_POOL_TIMEOUT=0.05)
        use_redis()
        pool = redis_client().connection_pool
        connection = pool.get_connection()
        with pytest.raises(RedisPoolBusyError):
            redis_client().ping()
        pool.release(connection)
        redis_client().ping()
        assert (pool_use["redis"].waits, pool_use["redis"].timeouts) == (1, 1)


async def _connect_once(engine: AsyncEngine) -> None:
    async with engine.connect():
        pass


class TestReading:
    async def test_all_parts_are_there(self, emptied_engine: AsyncEngine) -> None:
        status = await read_status()
        assert status.problems == {}
        assert status.redis
        assert status.database
        assert status.redis.status.queues
        assert status.redis.connections.in_use
        assert status.database.connections.holders
        assert status.database.missing_migrations == ()

    async def test_many_who_ask_cost_as_much_as_one(
        self, emptied_engine: AsyncEngine, use_redis: Callable[..., RedisServer]
    ) -> None:
        use_redis()
        first = await read_status()
        assert first.redis
        further_queues = len(first.redis.status.queues) - 1  # that other tests have sent to
        before = _commands()
        statuses = await asyncio.gather(*(read_status(max_age=0) for _ in range(50)))
        assert all(each is statuses[0] for each in statuses)
        assert await read_status() is statuses[0]
        commands = _commands() - before - 1 - 4 * further_queues
        assert 5 < commands <= MAX_AGE_SECONDS, "more than one operation a second"
        assert await read_status(max_age=0) is not statuses[0]

    async def test_nothing_is_held_between_two_readings(self, emptied_engine: AsyncEngine) -> None:
        await read_status()
        pool: Any = emptied_engine.pool
        assert pool.checkedout() == 0

    async def test_a_caller_that_goes_leaves_the_reading_to_the_others(
        self, emptied_engine: AsyncEngine
    ) -> None:
        first, second = (asyncio.create_task(read_status()) for _ in "12")
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).database

    async def test_a_lost_redis_leaves_the_database(
        self, emptied_engine: AsyncEngine, use_redis: Callable[..., RedisServer]
    ) -> None:
        use_redis().kill()
        status = await read_status()
        assert status.redis is None
        assert status.database
        assert "ConnectionError" in status.problems["redis"]

    async def test_a_database_that_is_read_only_is_a_problem(
        self, emptied_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {**settings.database_connect_args}
        options["server_settings"] = {
            **options.get("server_settings", {}),
            "default_transaction_read_only": "on",
        }
        read_only = create_async_engine(settings.DATABASE_URL, connect_args=options)
        monkeypatch.setattr(service.module("core.database"), "engine", read_only)
        status = await read_status(max_age=0)
        await read_only.dispose()
        assert status.database
        assert status.problems == {"database": "it is read-only"}

    async def test_a_database_that_does_not_answer_leaves_redis(
        self, emptied_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status_module, "TIMEOUT_SECONDS", 0.3)

        async def never(_connection: Any) -> None:
            await _connection.execute(text("SELECT pg_sleep(30)"))

        monkeypatch.setattr(status_module, "count_postgres", never)
        status: ServiceStatus = await read_status()
        assert status.database is None
        assert status.redis
        assert "TimeoutError" in status.problems["database"]


def _commands() -> int:
    return int(redis_client().info("stats")["total_commands_processed"])

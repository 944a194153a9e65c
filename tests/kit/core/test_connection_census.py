import os
from collections.abc import Callable

import pytest

from app.core.config import settings
from app.core.database import engine, sync_engine
from kit.connections import Census, Holder, count_postgres, count_redis
from kit.database import connect
from kit.process import client_name
from kit.redis._pool import redis_client
from kit.testing import change_settings
from kit.testing._processes import RedisServer


def of_this_process(census: Census) -> Holder:
    [holder] = [each for each in census.holders if each.pid == os.getpid()]
    return holder


class TestRedis:
    def test_each_process_is_shown_with_what_it_may_hold(
        self, use_redis: Callable[..., RedisServer]
    ) -> None:
        server = use_redis("--maxclients", "20")
        own, _, _ = client_name(settings, "api").partition(":")
        names = [f"{own}:worker@b:2"] * 5 + [f"{own}:api@a:1", "redis-cli", "shop:api@c:3"]
        clients = [server.client(client_name=name) for name in names]
        for client in clients:
            client.ping()

        census = count_redis(redis_client())

        for client in clients:
            client.close()
        api, worker, command, others = census.holders
        assert api == Holder("api", "a", 1, 1, 2)
        assert worker == Holder("worker", "b", 2, 5, 4)
        assert command == of_this_process(census)
        assert others == Holder("others", "", None, 2, None)
        assert [each.is_over for each in census.holders] == [False, True, False, False]
        assert (census.in_use, census.plan.limit) == (9, 20)
        assert census.is_over

    def test_more_in_use_than_there_are(
        self, use_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = use_redis()
        change_settings(monkeypatch, REDIS_CONNECTION_LIMIT=13)
        others = [server.client() for _ in range(13)]
        for other in others[:-1]:
            other.ping()
        assert not count_redis(redis_client()).is_over

        others[-1].ping()

        assert count_redis(redis_client()).is_over
        for other in others:
            other.close()

    def test_a_plan_that_is_too_small_is_over_with_nobody_connected(
        self, use_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_redis()
        change_settings(monkeypatch, REDIS_CONNECTION_LIMIT=11)
        assert count_redis(redis_client()).is_over

    def test_where_clients_may_not_be_listed_the_count_is_left(
        self, use_redis: Callable[..., RedisServer]
    ) -> None:
        use_redis()
        redis_client().acl_setuser("default", enabled=True, commands=["-client|list"])
        census = count_redis(redis_client())
        assert (census.holders, census.in_use) == ((), 1)
        assert "CLIENT LIST" in census.note


class TestPostgres:
    async def test_both_engines_and_the_command_say_whose_they_are(
        self, test_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, POSTGRES_POOLER="none")
        await engine.dispose()  # of what earlier tests have left in the pools
        sync_engine.dispose()
        async with connect() as connection:
            alone = of_this_process(await count_postgres(connection))
        # A transaction keeps the picture of the sessions that it began with: another looks again.
        async with engine.connect(), connect() as connection:
            with sync_engine.connect():
                three = of_this_process(await count_postgres(connection))
        await engine.dispose()
        sync_engine.dispose()
        assert three.connections == alone.connections + 2
        assert three.role in {"command", "api"}

    @pytest.mark.parametrize("mode", ["session", "transaction"])
    async def test_behind_a_pooler_nothing_is_guessed(
        self, test_database: str, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        change_settings(monkeypatch, POSTGRES_POOLER=mode)
        async with connect() as connection:
            census = await count_postgres(connection)
        assert (census.holders, census.in_use) == ((), None)
        assert f"behind the pooler in {mode} mode" in census.note

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection

from kit.redis import _pool as redis_connection
from kit.redis._pool import redis_client
from kit.testing._processes import RedisServer


@pytest.fixture
def broken_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Has a connection end here without the server's hearing of it."""
    kept = []

    def end(connection: Any) -> None:
        kept.append(os.dup(connection._sock.fileno()))
        with monkeypatch.context() as silence:
            silence.setattr(socket.socket, "shutdown", lambda *_: None)
            connection.disconnect()

    yield end
    for descriptor in kept:
        os.close(descriptor)


def others(observer: redis.Redis) -> int:
    """Connections that the server has beside the observer's."""
    return len(observer.client_list()) - 1


class TestPool:
    def test_what_was_abandoned_ends_when_another_opens(
        self, observer: redis.Redis, broken_network: Callable[[Any], None]
    ) -> None:
        pool: Any = redis_client().connection_pool
        connections = [pool.get_connection() for _ in range(2)]
        for connection in connections:
            broken_network(connection)
        assert others(observer) == 2, "the server has heard of it: this test tests nothing"

        connections[0].connect()

        assert others(observer) == 1
        for connection in connections:
            pool.release(connection)

    def test_what_ended_well_is_no_trouble(self, observer: redis.Redis) -> None:
        pool = redis_client().connection_pool
        for _ in range(3):
            assert redis_client().ping()
            pool.disconnect()
        assert redis_client().ping()
        assert redis_connection._abandoned == set()
        assert others(observer) == 1

    def test_another_client_that_got_the_number_is_spared(
        self, server: RedisServer, observer: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As behind a proxy that counts anew: the address has to be the same too."""
        with server.client(client_name="innocent") as innocent:
            number = str(innocent.client_id())
            monkeypatch.setattr(redis_connection, "_abandoned", {(number, "192.0.2.1:4711")})
            assert redis_client().ping()
            names = [each["name"] for each in observer.client_list()]
        assert "innocent" in names

    def test_a_child_leaves_its_parents_connections_alone(
        self, observer: redis.Redis, broken_network: Callable[[Any], None]
    ) -> None:
        pool: Any = redis_client().connection_pool
        connection = pool.get_connection()
        connection.pid = -1  # as if another process had made it
        broken_network(connection)
        assert redis_client().ping()
        assert others(observer) == 2

    def test_where_a_plan_forbids_it_connections_open_all_the_same(
        self, server: RedisServer, broken_network: Callable[[Any], None]
    ) -> None:
        with server.client() as administrator:
            administrator.acl_setuser("default", enabled=True, commands=["-client"])
            pool: Any = redis_client().connection_pool
            pool.connection_kwargs["client_name"] = None
            connection = pool.get_connection()
            broken_network(connection)
            connection.connect()
            pool.release(connection)
        assert redis_client().ping()


class TestChannel:
    def test_what_waited_on_a_broken_network_ends_when_it_is_replaced(
        self, server: RedisServer, observer: redis.Redis, broken_network: Callable[[Any], None]
    ) -> None:
        with Connection(server.url) as connection:
            channel: Any = connection.channel()
            waiting = channel.async_pool.get_connection()
            broken_network(waiting)
            before = others(observer)
            replaced = channel.async_pool.get_connection()
            assert others(observer) == before
            channel.async_pool.release(replaced)

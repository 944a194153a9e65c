from collections.abc import Callable, Iterator

import pytest
import redis

from kit.testing._processes import RedisServer


@pytest.fixture
def server(use_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of the test's own, to which this process's pool leads too."""
    return use_redis()


@pytest.fixture
def observer(server: RedisServer) -> Iterator[redis.Redis]:
    """A connection of its own, to look at queues and at the other connections."""
    with server.client(client_name="observer") as client:
        yield client

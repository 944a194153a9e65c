"""News in several processes."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from kit.testing import RedisServer, own_database, run_api

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may end."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def addresses(test_database: str, server: RedisServer) -> Iterator[tuple[str, str]]:
    """Two processes of the API."""
    with own_database() as environment:
        environment |= {"REDIS_URL": server.url, "REDIS_POOL_SIZE": "3"}
        with run_api(environment) as one, run_api(environment) as two:
            yield one, two


def listening(server: RedisServer) -> int:
    """How many processes listen."""
    client = server.client()
    return sum(number for _, number in client.pubsub_numsub(*client.pubsub_channels()))


def test_news_reach_readers_of_every_process_after_an_outage_too(
    addresses: tuple[str, str], server: RedisServer
) -> None:
    one, two = (f"ws{address.removeprefix('http')}/api/news/live" for address in addresses)
    with (
        connect(one) as first,
        connect(two) as second,
        httpx.Client(base_url=addresses[0]) as client,
    ):
        client.post("/api/news", json="The harbour is closed.").raise_for_status()
        assert {each.recv(10) for each in (first, second)} == {"The harbour is closed."}

        server.kill()
        assert client.post("/api/news", json="Lost").status_code == 503
        server.start()
        while listening(server) < len(addresses):
            time.sleep(0.1)
        client.post("/api/news", json="It is open.").raise_for_status()
        assert {each.recv(10) for each in (first, second)} == {"It is open."}

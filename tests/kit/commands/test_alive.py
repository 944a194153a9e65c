"""The health check of the processes that answer no requests."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
import redis

from app.core.config import settings
from kit.commands.alive import is_connected, main
from kit.process import client_name
from kit.settings import Settings
from kit.testing._processes import RedisServer

HOST = socket.gethostname()


@pytest.fixture
def worker_connection() -> Iterator[redis.Redis]:
    name = client_name(settings, "worker")
    client = redis.Redis.from_url(settings.REDIS_URL, client_name=name)
    client.ping()
    yield client
    client.close()


def settings_for(port: int) -> Settings:
    there = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port, "REDIS_DB": 0}
    open_to_all = {"REDIS_PASSWORD": None, "REDIS_TLS": False, "redis_url_override": "redis://"}
    return settings.model_copy(update=there | open_to_all)


def test_without_a_process_it_fails_and_says_so(
    use_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = use_redis()  # other tests of this run may have a beat on theirs
    monkeypatch.setattr("kit.commands.alive.settings", settings_for(server.port))
    assert main(["beat"]) == 1
    assert capsys.readouterr().err == "no beat on this machine is connected to Redis\n"


@pytest.mark.usefixtures("worker_connection")
def test_a_connected_process_is_alive() -> None:
    assert main(["worker"]) == 0


@pytest.mark.usefixtures("worker_connection")
def test_another_machine_s_process_says_nothing_of_this_one() -> None:
    assert not is_connected("worker", f"not-{HOST}")


def test_redis_out_of_reach_says_so_and_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kit.commands.alive.settings", settings_for(1))
    assert main(["worker"]) == 0
    assert "Redis cannot be reached" in capsys.readouterr().err


def test_strangers_that_take_all_connections_end_no_worker(
    use_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = use_redis("--maxclients", "1")
    monkeypatch.setattr("kit.commands.alive.settings", settings_for(server.port))
    with closing(server.client()) as stranger:
        stranger.ping()
        assert main(["worker"]) == 0
    assert "max number of clients reached" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 0), ("0.0.0.0", 0), ("::", 1)])  # noqa: S104
def test_the_api_is_asked_where_it_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, status: int
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # as Docker's client may set it
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        monkeypatch.setattr(SimpleHTTPRequestHandler, "do_GET", answer_healthy)
        there = {"API_HOST": host, "API_PORT": server.server_port}
        monkeypatch.setattr("kit.commands.alive.settings", settings.model_copy(update=there))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert main(["api"]) == status
        finally:
            server.shutdown()
            thread.join()
    assert ("the API cannot be reached" in capsys.readouterr().err) == bool(status)


def answer_healthy(handler: SimpleHTTPRequestHandler) -> None:
    handler.send_response(200 if handler.path == "/health/live" else 404)
    handler.end_headers()

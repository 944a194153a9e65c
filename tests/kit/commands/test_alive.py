"""The health check of the processes that answer no requests."""

import socket
from collections.abc import Callable, Iterator

import pytest
import redis

from app.core.config import settings
from kit.commands.alive import is_connected, main
from kit.process._name import client_name
from kit.settings import Settings
from kit.testing._redis_servers import RedisServer

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


def test_redis_out_of_reach_fails_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kit.commands.alive.settings", settings_for(1))
    assert main(["worker"]) == 1
    assert "cannot be reached" in capsys.readouterr().err

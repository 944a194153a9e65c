"""Addresses are chosen once, the same for everybody, and told to nobody else."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit.devservices import DevServicesError, addresses
from kit.devservices._data import port_is_free


def test_a_reservation_is_remembered(tmp_path: Path) -> None:
    assert addresses(tmp_path) == addresses(tmp_path)


def test_projects_have_passwords_of_their_own(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    passwords = {
        password
        for project in (first, second)
        for password in (addresses(project).postgres.password, addresses(project).redis.password)
    }
    assert len(passwords) == 4


def test_concurrent_reservations_are_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        reserved = set(threads.map(addresses, [tmp_path] * 32))
    assert len(reserved) == 1


def test_nobody_else_reads_it_and_git_ignores_it(tmp_path: Path) -> None:
    addresses(tmp_path)
    assert (tmp_path / ".data" / "services.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".data").stat().st_mode & 0o066 == 0
    assert (tmp_path / ".data" / ".gitignore").read_text() == "*\n"
    assert addresses(tmp_path).postgres.password not in repr(addresses(tmp_path))


def test_another_port_can_be_chosen(tmp_path: Path) -> None:
    reserved = addresses(tmp_path)
    path = tmp_path / ".data" / "services.json"
    content = json.loads(path.read_text())
    content["postgres"]["port"] = 25432
    path.write_text(json.dumps(content))
    assert addresses(tmp_path).postgres.port == 25432
    assert addresses(tmp_path).postgres.password == reserved.postgres.password
    assert addresses(tmp_path).redis == reserved.redis


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"postgres": {}, "redis": {}}'])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    addresses(tmp_path)
    path = tmp_path / ".data" / "services.json"
    path.write_text(content)
    with pytest.raises(DevServicesError, match="services.json") as error:
        addresses(tmp_path)
    assert "emove it to have it made again" in str(error.value)


def test_urls_hold_what_a_client_needs(tmp_path: Path) -> None:
    reserved = addresses(tmp_path)
    postgres, redis = reserved.postgres, reserved.redis
    assert postgres.url == f"postgresql://postgres:{postgres.password}@127.0.0.1:{postgres.port}"
    assert redis.url == f"redis://default:{redis.password}@127.0.0.1:{redis.port}/0"


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)

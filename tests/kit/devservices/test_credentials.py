"""Credentials are generated once, differ from each other and show nowhere."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from threading import Barrier

import pytest

from kit.devservices import Credentials, DevServicesError, local_credentials


def test_they_survive(tmp_path: Path) -> None:
    assert local_credentials(tmp_path) == local_credentials(tmp_path)


def test_processes_that_start_at_once_agree_on_them(tmp_path: Path) -> None:
    together = Barrier(8)

    def start(_: int) -> Credentials:
        together.wait()
        return local_credentials(tmp_path)

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(start, range(8)))) == 1
        (tmp_path / ".data" / "credentials.json").unlink()


def test_they_differ_from_each_other_and_from_another_projects(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    secrets = [*astuple(local_credentials(tmp_path)), *astuple(local_credentials(other))]
    assert len(set(secrets)) == len(secrets) - 1  # both administrators are called admin


def test_nobody_else_reads_them(tmp_path: Path) -> None:
    credentials = local_credentials(tmp_path)
    assert (tmp_path / ".data" / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert credentials.secret_key not in repr(credentials)


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    local_credentials(tmp_path)
    path = tmp_path / ".data" / "credentials.json"
    content = json.loads(path.read_text())
    del content["api_token"]
    path.write_text(json.dumps(content))
    with pytest.raises(DevServicesError, match=r"credentials.json lacks api_token"):
        local_credentials(tmp_path)

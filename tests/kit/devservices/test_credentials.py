"""Credentials are generated once, differ from each other and show nowhere."""

import json
from dataclasses import astuple
from pathlib import Path

import pytest

from kit.devservices import DevServicesError, local_credentials


def test_they_survive(tmp_path: Path) -> None:
    assert local_credentials(tmp_path) == local_credentials(tmp_path)


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

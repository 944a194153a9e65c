"""What can be seen of the servers while they are held."""

import pwd
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kit.tests.devservices.project import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def seconds_to_start(project: Project) -> Iterator[float]:
    began = time.monotonic()
    holder = project.hold()
    yield time.monotonic() - began
    holder.release()


def test_they_are_ready(project: Project, seconds_to_start: float) -> None:
    assert project.query("SELECT 1") == [(1,)]
    assert project.redis().ping()
    # Under one second on an idle machine, where most of it makes the data directory.
    assert seconds_to_start < 10


def test_they_run_as_the_projects_user_and_postgresql_never_as_root(
    project: Project,
) -> None:
    owner = project.directory.stat().st_uid
    nobody = pwd.getpwnam("nobody").pw_uid
    users = {name: process.uids().effective for name, process in project.servers().items()}
    assert users.pop("postgres") == (owner or nobody)
    assert set(users.values()) == {owner}


def test_logins_without_the_password_are_refused(project: Project) -> None:
    addresses = project.addresses
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(addresses.postgres.url.replace(addresses.postgres.password, "wrong"))
    without_password = redis.Redis(port=addresses.redis.port, retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.AuthenticationError):
        without_password.ping()


def test_they_listen_on_this_machine_alone(project: Project) -> None:
    listening = [
        connection.laddr.ip
        for server in project.servers().values()
        for connection in server.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1", "127.0.0.1"]


def test_no_program_argument_shows_a_password(project: Project) -> None:
    arguments = [part for process in project.processes() for part in process.cmdline()]
    addresses = project.addresses
    assert not [part for part in arguments if addresses.postgres.password in part]
    assert not [part for part in arguments if addresses.redis.password in part]

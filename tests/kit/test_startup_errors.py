"""What keeps the service from starting is told in one clear line, whichever way it is started."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from app.core.config import BASE_DIR, settings
from kit.testing._databases import create_database, drop_database
from kit.tests.pgbouncer import pgbouncer

pytestmark = pytest.mark.slow

SERVE = ("kit.commands.serve",)
UVICORN = ("uvicorn", "app.main:app", "--port", "0")
WORKER = ("celery", "-A", "app.core.celery", "worker", "--pool", "solo")
ALEMBIC = ("alembic", "current")

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k3yThatNobodyCouldGuess-0123456789",
    "CORS_ORIGINS": "https://app.example.com",
    "ENABLED_EXTENSIONS": "_example",  # others may want settings of their own outside local
}


def start(command: tuple[str, ...], **environment: str) -> subprocess.CompletedProcess[str]:
    """Start the service with changed settings, which is expected to fail at once."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=BASE_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def with_database(**changes: Any) -> str:
    """The test run's connection string with other parts."""
    url = make_url(settings.SYNC_DATABASE_URL).set(drivername="postgresql", **changes)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def empty_database() -> Iterator[str]:
    """Name of a database without tables."""
    name = f"startup_{os.getpid()}_test"
    create_database(name)
    yield name
    drop_database(name)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def assert_one_clear_line(result: subprocess.CompletedProcess[str], *expected: str) -> None:
    output = result.stdout + result.stderr
    assert result.returncode != 0, output
    assert "Traceback" not in output
    [line] = [line for line in output.splitlines() if expected[0] in line]
    for text in expected:
        assert text in line


@pytest.mark.parametrize("command", [SERVE, UVICORN, WORKER, ALEMBIC], ids=lambda each: each[0])
def test_missing_setting_whatever_is_started(command: tuple[str, ...]) -> None:
    environment = {**PRODUCTION, "SECRET_KEY": ""}

    assert_one_clear_line(
        start(command, **environment),
        "SECRET_KEY is not set and ENVIRONMENT is production: set it in the environment",
    )


def test_all_that_is_missing_or_wrong_is_reported_at_once() -> None:
    """What is missing, what cannot be read, and the extensions' settings, in one start."""
    result = start(
        SERVE,
        ENVIRONMENT="production",
        ENABLED_EXTENSIONS="_example",
        SECRET_KEY="",
        CORS_ORIGINS="",
        API_WORKERS="many",
        REDIS_URL="rediss://default:[YOUR-PASSWORD]@redis.example.com:6379",
        EXAMPLE_PAGE_SIZE="none",
    )

    output = result.stdout + result.stderr
    assert result.returncode == 1
    assert "Traceback" not in output
    lines = [line.removeprefix("error:").split()[0] for line in output.splitlines()]
    assert lines == ["API_WORKERS", "REDIS_URL", "SECRET_KEY", "CORS_ORIGINS", "EXAMPLE_PAGE_SIZE"]


@pytest.mark.parametrize("environment", [None, ""])
def test_in_an_image_no_environment_is_production(tmp_path: Path, environment: str | None) -> None:
    """The image has no embedded servers, see `.dockerignore`."""
    for folder in ("app", "kit"):
        ignored = shutil.ignore_patterns("devservices", "tests", "testing", "__pycache__")
        shutil.copytree(BASE_DIR / folder, tmp_path / folder, ignore=ignored)
    given = {"ENVIRONMENT": environment} if environment is not None else {}

    result = subprocess.run(
        [sys.executable, "-c", "import app.core.config"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "SECRET_KEY is not set and ENVIRONMENT is production" in result.stderr


@pytest.mark.parametrize("command", [(*SERVE, "--check"), UVICORN], ids=lambda each: each[0])
def test_local_that_was_forgotten(command: tuple[str, ...]) -> None:
    result = start(
        command,
        ENVIRONMENT="",
        ALLOW_UNSAFE="",
        DATABASE_URL="postgresql://u:hunter2@db.example.com/app",
        API_PORT=free_port(),
    )

    assert_one_clear_line(
        result,
        "Set ENVIRONMENT=production, or use `make dev`",
        "PostgreSQL is on another machine",
        "add local-with-remote-servers to ALLOW_UNSAFE",
    )
    assert "hunter2" not in result.stdout + result.stderr


def test_workers_of_uvicorn_that_no_setting_declares() -> None:
    result = start((*UVICORN, "--workers", "3"), POSTGRES_CONNECTION_LIMIT="15")

    output = result.stdout + result.stderr
    assert "uvicorn runs 3 processes, but API_WORKERS is 1 (not set)" in output
    assert "set API_WORKERS=3" in output
    assert "3 API x 10 + 3 admin x 1" in output
    assert "Application startup complete" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_pooler_that_no_setting_names(mode: str, test_database: str) -> None:
    with pgbouncer(mode, pool_size=3) as environment:
        unnamed = environment | {"POSTGRES_POOLER": ""}
        result = start((*SERVE, "--check"), **unnamed)
        named = start((*SERVE, "--check"), **environment)

    assert_one_clear_line(
        result, "is a connection pooler, which POSTGRES_POOLER does not say", "=transaction"
    )
    assert named.returncode == 0, named.stderr


def test_weak_secret() -> None:
    assert_one_clear_line(
        start(SERVE, **{**PRODUCTION, "SECRET_KEY": "changethis"}),
        "SECRET_KEY has fewer than 32 characters",
    )


def test_wrong_value() -> None:
    assert_one_clear_line(
        start(SERVE, POSTGRES_POOL_SIZE="many"),
        "POSTGRES_POOL_SIZE (set in the environment)",
        "valid integer",
    )


def test_unknown_extension() -> None:
    assert_one_clear_line(
        start(SERVE, ENABLED_EXTENSIONS="_exmaple", API_PORT=free_port()),
        "ENABLED_EXTENSIONS (set in the environment) names '_exmaple'",
        "did you mean _example?",
    )


@pytest.mark.parametrize("command", [SERVE, UVICORN, ALEMBIC], ids=lambda each: each[0])
def test_wrong_password(command: tuple[str, ...], test_database: str) -> None:
    assert_one_clear_line(
        start(command, DATABASE_URL=with_database(password="wrong"), API_PORT=free_port()),
        "refuses the login of",
        "Correct DATABASE_URL (set in the environment)",
    )


def test_no_server() -> None:
    environment = {"DATABASE_URL": with_database(port=int(free_port()))}

    assert_one_clear_line(
        start(SERVE, **environment, API_PORT=free_port()),
        "cannot be reached",
        "Start it, or correct DATABASE_URL",
    )


def test_no_such_database(test_database: str) -> None:
    environment = {"DATABASE_URL": with_database(database="absent_test")}

    assert_one_clear_line(
        start(SERVE, **environment, API_PORT=free_port()), "has no database", "createdb"
    )


@pytest.mark.parametrize("command", [SERVE, UVICORN], ids=lambda each: each[0])
def test_database_not_at_head(command: tuple[str, ...], empty_database: str) -> None:
    environment = {**PRODUCTION, "DATABASE_URL": with_database(database=empty_database)}

    assert_one_clear_line(
        start(command, **environment, API_PORT=free_port()),
        "the database has no tables yet. Run `alembic upgrade heads` first.",
    )


def test_a_command_on_a_database_not_at_head(empty_database: str) -> None:
    environment = {**PRODUCTION, "DATABASE_URL": with_database(database=empty_database)}

    assert_one_clear_line(
        start(("kit.commands.token", "list"), **environment), "the database has no tables yet"
    )


def test_a_command_makes_the_tables_of_an_empty_local_database(empty_database: str) -> None:
    environment = {"DATABASE_URL": with_database(database=empty_database)}

    made = start(("kit.commands.token", "create", "job"), **environment)
    listed = start(("kit.commands.token", "list"), **environment)

    assert (made.returncode, listed.returncode) == (0, 0), made.stderr + listed.stderr
    assert "job" in listed.stdout


def test_port_in_use(taken_port: int) -> None:
    assert_one_clear_line(
        start(SERVE, API_PORT=str(taken_port)),
        f"port {taken_port} of 127.0.0.1 is in use by another program",
        "set API_PORT to another port",
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])

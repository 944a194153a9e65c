"""With `.env` pointing at a PostgreSQL and a Redis of the system, everything works the same."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.installed_servers import free_port, installed_postgres, installed_redis
from tests.service import Development, Service, answer_of

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("configured_servers")]


@pytest.fixture(scope="module")
def configured(service: Service, service_folder: Path) -> Iterator[Service]:
    """The set-up project, with a `.env` that names the system's servers."""
    project = service_folder / "configured"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv", ".data"))
    with ExitStack() as servers:
        settings = {
            **servers.enter_context(installed_postgres(service_folder / "postgres")),
            **servers.enter_context(installed_redis(service_folder / "redis")),
            "API_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
        }
        lines = [f"{name}='{value}'" for name, value in settings.items()]
        (project / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")
        configured = Service(project, service.environment)
        configured.make("setup")
        yield configured


def test_migrations_and_doctor(configured: Service) -> None:
    configured.make("db-upgrade")
    output = configured.make("doctor")
    assert "database: PostgreSQL" in output
    assert "at the code's heads" in output
    assert "of 30.0 MiB" in output
    assert " 0 problems" in f" {output.splitlines()[-1]}"


def test_tests(configured: Service) -> None:
    """The quick ones that use a server, and of the others those that make databases on it."""
    configured.make("test", "args=tests app/extensions kit/tests/core kit/tests/migrations")
    slow = "kit/tests/migrations/test_db_command.py kit/tests/migrations/test_startup.py"
    configured.make("test-all", f"args=-m slow tests/migrations {slow}")


def test_development(configured: Service) -> None:
    """API, worker, beat, admin and Flower on the configured servers; none of its own is started."""
    development = Development(configured)
    try:
        announced = development.wait_until_ready()
        token = re.search(r"API token\s+(\S+)", announced)
        flower = re.search(r"Flower\s+(http\S+)", announced)
        api = re.search(r"Service\s+(http\S+)", announced)
        assert token
        assert flower
        assert api
        for path, expected in [("/health/ready", 200), ("/", 200), ("/admin/login", 200)]:
            assert answer_of(api[1] + path)[0] == expected, path
        assert answer_of(flower[1])[0] == 401
        status, text = answer_of(f"{api[1]}/api/tasks/ping", {"message": "hello"}, token[1])
        assert status == 202
        url = api[1] + json.loads(text)["status_url"]
        deadline = time.monotonic() + 20
        while not (task := json.loads(answer_of(url, token=token[1])[1]))["ready"]:
            assert time.monotonic() < deadline, task
            time.sleep(0.1)
        assert task["result"]["message"] == "hello"
        assert not (configured.folder / ".data" / "pg").exists()
    finally:
        development.interrupt()

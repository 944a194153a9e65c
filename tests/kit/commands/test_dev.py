"""Everything under one command, in a copy of the project: it answers, remembers and ends."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from app.core.config import BASE_DIR
from kit.tests.devservices.project import wait_until

pytestmark = pytest.mark.slow

NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "node_modules", "tests", "uv.lock", "*.jinja"
)
CTRL_C_SECONDS = 15
"""At most 8 for programs that take long to end, and what a busy machine needs besides."""


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A fresh copy of this project: no `.env`, no `.data/`."""
    with tempfile.TemporaryDirectory(prefix="dev-") as directory:
        copy = Path(directory, "service")
        shutil.copytree(BASE_DIR, copy, ignore=NOT_COPIED)
        copy.parent.chmod(0o755)
        yield copy


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Development:
    """The command, running in a project."""

    def __init__(self, project: Path, **settings: str) -> None:
        self._project = project
        self.api = f"http://127.0.0.1:{free_port()}"
        self.flower = f"http://127.0.0.1:{free_port()}"
        # Nothing of what the test run has set up for itself.
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {
            "API_PORT": self.api.rpartition(":")[2],
            "FLOWER_PORT": self.flower.rpartition(":")[2],
            **settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kit.commands.dev"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "Development":
        assert self.process.stdout is not None
        lines = []
        while "Ctrl-C stops it all" not in (line := self.process.stdout.readline()):
            lines.append(line)
            assert line, "".join(lines)
        self.announcement = "".join(lines[-20:])
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)

    def left_behind(self) -> list[psutil.Process]:
        """Processes of the project: those that work in its folder or were started for it."""
        return [
            process
            for process in psutil.process_iter(["cwd", "cmdline"])
            if str(self._project) in (process.info["cwd"] or "")
            or str(self._project) in " ".join(process.info["cmdline"] or [])
        ]

    def status(self, url: str, **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
                status: int = answer.status
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
        return status

    def credentials(self) -> dict[str, str]:
        path = self._project / ".data" / "credentials.json"
        credentials: dict[str, str] = json.loads(path.read_text())
        return credentials


def call(request: urllib.request.Request) -> dict[str, object]:
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: dict[str, object] = json.load(answer)
    return body


def run_ping(development: Development) -> dict[str, object]:
    """Send a task through the API, and read its result as the worker left it."""
    headers = {
        "Authorization": f"Bearer {development.credentials()['api_token']}",
        "Content-Type": "application/json",
    }
    url = f"{development.api}/api/tasks/ping"
    sent = call(urllib.request.Request(url, b'{"message": "hello"}', headers))
    status_url = f"{development.api}{sent['status_url']}"
    states: list[dict[str, object]] = []

    def is_ready() -> object:
        states.append(call(urllib.request.Request(status_url, headers=headers)))
        return states[-1]["ready"]

    wait_until(is_ready, 30)
    result = states[-1]["result"]
    assert isinstance(result, dict)
    return result


def test_all_of_it(project: Path) -> None:
    with Development(project) as development:
        credentials = development.credentials()
        for secret in ("admin_password", "flower_password", "api_token"):
            assert credentials[secret] in development.announcement
        for path in ("/", "/scalar", "/admin/login", "/health/live", "/health/ready"):
            assert development.status(f"{development.api}{path}") == 200
        login = base64.b64encode(f"flower:{credentials['flower_password']}".encode()).decode()
        assert development.status(development.flower) == 401
        assert development.status(development.flower, Authorization=f"Basic {login}") == 200
        assert run_ping(development)["message"] == "hello"

        development.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert development.process.wait(60) == 0
        assert time.monotonic() - began < CTRL_C_SECONDS
        wait_until(lambda: not development.left_behind(), 2)

    with Development(project) as development:
        assert development.credentials() == credentials
        assert credentials["admin_password"] in development.announcement
        development.process.kill()
        wait_until(lambda: not development.left_behind(), 30)


def test_it_is_for_development_alone(project: Path) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "x" * 40,
        "DATABASE_URL": "postgresql://postgres:x@127.0.0.1:9/postgres",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "CORS_ORIGINS": "none",
        "FLOWER_PASSWORD": "x" * 20,
    }
    development = Development(project, **settings)
    output, _ = development.process.communicate(timeout=30)
    assert development.process.returncode == 1
    assert output.startswith("error: ENVIRONMENT is production")
    assert len(output.splitlines()) == 1


def test_a_port_in_use_is_told_before_anything_starts(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        development = Development(project, FLOWER_PORT=str(port))
        output, _ = development.process.communicate(timeout=30)
    assert development.process.returncode == 1
    assert output.startswith(f"error: port {port} of 127.0.0.1 is in use")
    assert len(output.splitlines()) == 1

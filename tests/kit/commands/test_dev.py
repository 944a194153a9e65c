"""Everything under one command, in a copy of the project: it answers, remembers and ends."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psutil  # type: ignore[import-untyped]
import pytest

from app.core.config import BASE_DIR, Settings
from kit.commands import alive, dev
from kit.tests.background import Background
from kit.tests.command_lines import CommandLines
from kit.tests.devservices.project import wait_until

pytestmark = pytest.mark.slow

NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "node_modules", "tests", "uv.lock", "*.jinja"
)
NOTICE_SECONDS = 3.0
"""Within this time, a change is noticed."""
STARTS = 2
"""A process comes back, and a request waits, no longer than two starts of everything take here."""
ANSWER_SECONDS = 60
"""A request waits for the start of the API; one that is lost would wait for ever."""
CTRL_C_SECONDS = 15
"""At most 8 for programs that take long to end, and what a busy machine needs besides."""


@pytest.fixture
def project() -> Iterator[Path]:
    """A fresh copy of this project: no `.env`, no `.data/`."""
    with tempfile.TemporaryDirectory(prefix="dev-") as directory:
        copy = Path(directory, "tests", "service")  # what is called so above it is none of its own
        shutil.copytree(BASE_DIR, copy, ignore=NOT_COPIED)
        Path(directory).chmod(0o755)
        yield copy


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


BANNERS = r"-------|__    -|\[queues\]|Registered tasks|superuser|alembic\.runtime"


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
        self._environment = environment
        self.lines: list[str] = []
        self.seen = 0
        self._began = time.monotonic()
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
        self.before_announcement = "".join(lines[:-12])
        self.patience = STARTS * (time.monotonic() - self._began)
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
        return self.answer(url, **headers)[0]

    def answer(self, url: str, **headers: str) -> tuple[int, str]:
        """Status and text; none where a process that ends had just taken the connection."""
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def read_output(self) -> None:
        """Read on in a thread: a full pipe would stop the command."""
        assert self.process.stdout is not None
        Thread(target=self.lines.extend, args=(self.process.stdout,)).start()

    def run(self, *arguments: str, answer: str = "") -> None:
        """Run another command in the project, as in a second terminal."""
        subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self._project,
            env=self._environment,
            input=answer,
            text=True,
            check=True,
            capture_output=True,
        )

    def processes(self, word: str) -> list[psutil.Process]:
        """The processes that have this word in their command."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in below if word in process.cmdline()]

    def wait_for_line(self, text: str, seconds: float = NOTICE_SECONDS) -> None:
        """Wait for a line after the one that the last call has found."""
        began = self.seen
        wait_until(lambda: any(text in line for line in self.lines[began:]), seconds)
        self.seen += [text in line for line in self.lines[began:]].index(True) + 1

    def wait_for_status(self, status: int) -> None:
        wait_until(lambda: self.status(f"{self.api}/health/live") == status, self.patience)

    def secrets(self) -> set[str]:
        """What the developer logs in with, and what the servers are reached with."""
        path = self._project / ".data" / "services.json"
        passwords = re.findall(r'"password": "([^"]+)"', path.read_text())
        return {*self.credentials().values(), *passwords} - {"admin"}

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


def log_in(development: Development) -> str:
    """Log in to the admin; the URL of the page that it leads to."""
    credentials = development.credentials()
    form = {"username": credentials["admin_username"], "password": credentials["admin_password"]}
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    login = f"{development.api}/admin/login"
    with opener.open(login, urllib.parse.urlencode(form).encode(), timeout=10) as answer:
        url: str = answer.url
    return url


STARTED = ["kit.commands.dev", "kit.commands.serve", "worker", "beat", "flower", "postgres"]
STARTED += ["valkey", "kit.devservices._keeper", "kit.commands.token", "kit.commands.alive"]


def test_all_of_it(project: Path) -> None:
    with CommandLines() as command_lines, Development(project) as development:
        credentials = development.credentials()
        assert not re.search(BANNERS, development.before_announcement)
        for secret in ("admin_password", "flower_password", "api_token"):
            assert credentials[secret] in development.announcement
        for path in ("/", "/scalar", "/admin/login", "/health/live", "/health/ready"):
            assert development.status(f"{development.api}{path}") == 200
        login = base64.b64encode(f"flower:{credentials['flower_password']}".encode()).decode()
        assert development.status(development.flower) == 401
        assert development.status(development.flower, Authorization=f"Basic {login}") == 200
        assert run_ping(development)["message"] == "hello"
        for command in ("token create other", "admin_password set other", "alive worker"):
            development.run(*f"kit.commands.{command}".split())
        seen, secrets = str(command_lines), development.secrets()
        assert len(secrets) == 6
        assert [name for name in STARTED if name not in seen] == []
        assert [line for line in seen.splitlines() if any(map(line.count, secrets))] == []

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


MODEL = """
from sqlmodel import Field, SQLModel


class Parcel(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
"""
TASK = """
from app.core.celery import celery_app


@celery_app.task(name="app.tasks.ship")
def ship() -> str:
    return "shipped"
"""
RUN_TASK = "from app.tasks.shipping import ship; assert ship.delay().get(timeout=20) == 'shipped'"


class Visitors(Background):
    """Requests without a pause, each on a connection of its own, while the code changes."""

    def __init__(self, url: str) -> None:
        super().__init__([self._visit] * 4)
        self._url = url
        self.statuses: list[int] = []
        self.errors: list[object] = []
        self.slowest = 0.0

    def _visit(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self._url, timeout=ANSWER_SECONDS) as answer:
                    self.statuses.append(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    self.statuses.append(error.code)
            except urllib.error.URLError as error:
                self.errors.append(error.reason)
            except OSError as error:
                self.errors.append(error)
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.02)


def test_the_code_changes_under_way(project: Path) -> None:
    """Migrations, an extension, a mistake, a new task, killed processes: nothing is stopped."""
    with (
        Development(project) as development,
        Visitors(f"{development.api}/health/live") as visitors,
    ):
        development.read_output()
        page = f"{development.api}/"

        (project / "app" / "models" / "parcel.py").write_text(MODEL)
        for command in (
            ("alembic", "revision", "--autogenerate", "--message", "add parcels"),
            ("kit.commands.extension", "loyalty"),
        ):
            development.run(*command)
            wait_until(lambda: development.status(page) == 503, development.patience)
            status, text = development.answer(page, Accept="text/html")
            assert status == 503
            assert "Run `make db-upgrade` first." in text
            assert any("Run `make db-upgrade` first." in line for line in development.lines)
            development.run("alembic", "upgrade", "heads")
            development.wait_for_status(200)

        time.sleep(5)  # a process that is killed sooner is taken for one that cannot run
        for name in ("kit.commands.serve", "worker"):
            [process] = development.processes(name)
            process.kill()
            development.wait_for_line("was ended by SIGKILL; it is started again.")
        development.wait_for_status(200)

        mistake = project / "app" / "api" / "mistake.py"
        mistake.write_text("def broken(:\n")
        wait_until(lambda: "SyntaxError" in development.answer(page)[1], development.patience)
        mistake.unlink()
        development.wait_for_status(200)

        (project / "app" / "tasks" / "shipping.py").write_text(TASK)
        development.wait_for_line("shipping.py changed")
        development.run("timeit", "--number=1", "--repeat=1", RUN_TASK)
    # A process that ends, closes the connections that it has just accepted.
    assert [each for each in visitors.errors if not isinstance(each, ConnectionResetError)] == []
    assert len(visitors.errors) < len(visitors.statuses) / 20
    assert set(visitors.statuses) == {200, 503}
    assert visitors.slowest < development.patience


def test_a_reset_keeps_the_printed_login_and_token(project: Path) -> None:
    with Development(project) as development:
        development.read_output()
        development.run("kit.commands.db", "reset", answer="postgres\n")
        # A new process: tokens are cached for a while.
        (project / "app" / "api" / "saved.py").touch()
        development.wait_for_line("saved.py changed")
        # Until then the process before may still take a connection, and end.
        development.wait_for_line("Application startup complete", ANSWER_SECONDS)
        assert run_ping(development)["message"] == "hello"
        assert log_in(development).endswith("/admin/")


def test_a_database_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://u:hunter2@db.example.com/app"
    changed = Settings(DATABASE_URL=url, REDIS_URL=None, API_HOST="::1")
    monkeypatch.setattr(dev, "settings", changed)
    monkeypatch.setattr(alive, "settings", changed)

    told = dev._announcement("http://f", admin=("a", "b"), flower=("c", "d"), token="t")

    assert "http://[::1]:8000/scalar" in told
    assert "PostgreSQL is not on this machine" in told
    assert "hunter2" not in told


def test_it_is_for_development_alone(project: Path) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "k3yThatNobodyCouldGuess-0123456789",
        "DATABASE_URL": "postgresql://postgres:x@127.0.0.1:9/postgres",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "CORS_ORIGINS": "none",
        "FLOWER_PASSWORD": "flowerOfTheMountain",
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

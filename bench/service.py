"""The API as it runs in production, and the programs that stand beside it as floors."""

import http.client
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.project import Project, bare_environment
from bench.servers import Servers

FLOORS = Path(__file__).parent / "floors"
START_SECONDS = 60
POOL_SIZE = 10
"""Database connections of the API and of each floor."""


@dataclass(frozen=True)
class Server:
    """A server process under measurement."""

    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """What its process has used so far, in user and kernel mode."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def resident_megabytes(self) -> float:
        """What it holds in memory now."""
        return float(self.process.memory_info().rss) / 2**20

    def answers(self, path: str) -> bool:
        """Whether somebody listens by now."""
        try:
            self.call("GET", path)
        except OSError:
            return False
        return True

    def call(self, method: str, path: str, body: str = "", token: str = "") -> str:
        """Make one request; the answer's text.

        Raises:
            RuntimeError: when it is not answered with success.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if not 200 <= answer.status < 300:  # noqa: PLR2004
            raise RuntimeError(f"{method} {path} was answered with {answer.status}: {text}")
        return text


def production(servers: Servers, database: str, *, link: str = "") -> dict[str, str]:
    """Settings of a service in production.

    Args:
        servers: that it uses.
        database: URL of the database, directly or behind the pooler.
        link: URL of the same over a link, if it is to use one.
    """
    is_pooled = database == servers.pooler
    return {
        "ENVIRONMENT": "production",
        "SECRET_KEY": secrets.token_urlsafe(32),
        "CORS_ORIGINS": "https://app.example.com",
        "API_RATE_LIMIT": "1000000",  # on, as it is in production, and beyond what a run reaches
        "ENABLED_EXTENSIONS": "_example",
        "DATABASE_URL": link or database,
        "POSTGRES_POOLER": "transaction" if is_pooled else "none",
        "POSTGRES_SSLMODE": "disable",
        "POSTGRES_POOL_SIZE": str(POOL_SIZE),
        "POSTGRES_CONNECTION_LIMIT": "60",
        "REDIS_URL": servers.redis,
        "FLOWER_PASSWORD": secrets.token_urlsafe(12),
    }


@contextmanager
def running_api(project: Project, settings: Mapping[str, str]) -> Iterator[Server]:
    """The API, with uvicorn as `make` and the image start it; its log goes to a file."""
    arguments = ["-m", "kit.commands.serve"]
    with _running(project, arguments, "/health/live", settings, "API_PORT") as server:
        yield server


@contextmanager
def running_floor(
    project: Project, application: str, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """An application of `floors/`, served by the same uvicorn: `starlette_hello:app`."""
    arguments = [str(FLOORS / "serve.py"), application]
    with _running(project, arguments, "/hello", settings or {}, "PORT") as server:
        yield server


@contextmanager
def running_worker(project: Project, settings: Mapping[str, str]) -> Iterator[psutil.Process]:
    """The service's worker, as `make worker` starts it."""
    application = "app.core.celery:celery_app"
    with _worker(project, application, settings, str(project.folder)) as process:
        yield process


@contextmanager
def running_stock_worker(project: Project, settings: Mapping[str, str]) -> Iterator[psutil.Process]:
    """A worker on Celery's own settings, beside the pool, which is solo as well."""
    with _worker(project, "stock_celery", settings, str(FLOORS)) as process:
        yield process


@contextmanager
def _worker(
    project: Project, application: str, settings: Mapping[str, str], path: str
) -> Iterator[psutil.Process]:
    options = ["worker", "--pool", "solo", "--concurrency", "1", "--loglevel", "INFO"]
    arguments = ["-m", "celery", "--app", application, *options]
    with _process(project, arguments, {**settings, "PYTHONPATH": path}) as (process, log):
        deadline = time.monotonic() + START_SECONDS
        while "ready." not in log.read_text():
            _refuse_if_dead(process, log, deadline)
        yield psutil.Process(process.pid)


@contextmanager
def _running(
    project: Project,
    arguments: list[str],
    probe: str,
    settings: Mapping[str, str],
    port_variable: str,
) -> Iterator[Server]:
    port = free_port()
    environment = {**settings, "PYTHONPATH": str(project.folder), port_variable: str(port)}
    with _process(project, arguments, environment) as (process, log):
        server = Server(port, psutil.Process(process.pid))
        deadline = time.monotonic() + START_SECONDS
        while not server.answers(probe):
            _refuse_if_dead(process, log, deadline)
        yield server


@contextmanager
def _process(
    project: Project, arguments: list[str], environment: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A process of the project's Python, and the file that it writes to."""
    log = project.folder.parent / f"{secrets.token_hex(4)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [project.python, *arguments],
            cwd=project.folder,
            env={**bare_environment(), **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _refuse_if_dead(process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(f"a process did not start:\n{log.read_text()}")
    time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def migrate(project: Project, settings: Mapping[str, str]) -> None:
    """Apply all migrations."""
    project.run_python("-m", "alembic", "upgrade", "heads", **settings)


def make_token(project: Project, settings: Mapping[str, str]) -> str:
    """An API token for every scope, as `make token` makes it: the notes' routes name scopes."""
    name = f"bench-{secrets.token_hex(4)}"
    arguments = ["kit.commands.token", "create", name, "--scopes", "*"]
    printed = project.run_python("-m", *arguments, **settings)
    return printed.split()[-1]

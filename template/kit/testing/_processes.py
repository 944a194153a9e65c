"""API, worker and Redis as processes: for tests across processes, of logs and of lost servers."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import kombu.pools
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from kit.devservices import find_valkey, signal_at_end_of_parent
from kit.places import service
from kit.redis import _pool as redis_pool
from kit.settings import BASE_DIR, settings
from kit.testing._databases import create_database, drop_database

START_SECONDS = 120
"""Timeout of a start, much longer than it takes, for a busy machine."""


class QueueProcess:
    """The process `celery -A app.core.celery <arguments>`, with the settings of the test run."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "app.core.celery", *arguments],
            cwd=BASE_DIR,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # When a test run is killed, its processes end too.
            preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "QueueProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """The process's output so far."""
        return "\n".join(self.lines)

    def wait_for(self, *texts: str, after: int = 0, seconds: float = START_SECONDS) -> str:
        """Wait for a line with one of these texts, from line number `after` on, and return it."""

        def found() -> str | None:
            lines = self.lines[after:]
            return next((line for line in lines if any(text in line for text in texts)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), timeout=seconds)
            line = found()
        assert line is not None, f"none of {texts} was written:\n{self.output}"
        return line

    def exit_status(self) -> int:
        """Wait until the process ends by itself, and return its status."""
        status = self._process.wait(START_SECONDS)
        self._reader.join()
        return status

    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process with SIGKILL, so that it cannot clean up."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the process as a supervisor does."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@pytest.fixture(scope="session")
def worker() -> Iterator[QueueProcess]:
    """Start a worker on the test run's Redis and queue, once for the session."""
    with QueueProcess("worker") as process:
        process.wait_for("ready.")
        yield process


@pytest.fixture
def running_service() -> Iterator[httpx.Client]:
    """Start an API and a worker, on a database and queue of their own; yields an HTTP client.

    Nothing is rolled back: their commits stay until the database is dropped.
    """
    with (
        own_database() as environment,
        run_api(environment) as address,
        QueueProcess("worker", **environment) as worker,
        httpx.Client(base_url=address) as client,
    ):
        worker.wait_for("ready.")
        yield client


@contextmanager
def own_database() -> Iterator[dict[str, str]]:
    """Environment of processes with a database and queue of their own, dropped at the end."""
    name = f"running_{secrets.token_hex(4)}_test"
    url = make_url(settings.SYNC_DATABASE_URL).set(drivername="postgresql", database=name)
    create_database(name)
    try:
        yield {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "POSTGRES_DB": name,
            "REDIS_KEY_PREFIX": f"{settings.REDIS_KEY_PREFIX}{name}:",
        }
    finally:
        drop_database(name)


@contextmanager
def run_api(environment: Mapping[str, str], *, module: str = "kit.commands.serve") -> Iterator[str]:
    """Run the API, with additions to the test run's environment; yields its address.

    Args:
        environment: further settings.
        module: module for `python -m`, for a test that serves more than the service does.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=BASE_DIR,
        env={**os.environ, **environment, "API_PORT": str(port)},
        preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_alive(process, address)
        yield address
    finally:
        process.terminate()
        process.wait(START_SECONDS)


_CONTRACT = """
[checks]
positive_data_acceptance.enabled = false  # a schema cannot say every rule
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]  # no server behind an extension
"""


def broken_contract(
    address: str,
    *,
    seconds: int = 10,
    examples: int = 0,
    checks: str = "all",
    phases: str = "",
    token: str = "",
) -> str:
    """Call a running API in every way that its OpenAPI schema allows, and in ways that it does not.

    Args:
        address: of the API, as `http://127.0.0.1:8000`.
        seconds: for as long.
        examples: instead, so many calls of each operation, beside those that cover the schema's
            limits.
        checks: those of Schemathesis to make, with commas between them.
        phases: of its run, likewise; all of them if not given.
        token: what `Authorization` carries. On a developer's machine, where the API serves whoever
            has none, it is left empty, and calls without one are not tried.

    Returns:
        Schemathesis' report where a check failed; else an empty text.
    """
    schemathesis = Path(sys.executable).with_name("st")
    of_callers = (
        ("--header", f"Authorization: Bearer {token}")
        if token
        else ("--generation-with-security-parameters", "false", "--exclude-checks", "ignored_auth")
    )
    length = ("--max-examples", str(examples)) if examples else ("--max-time", str(seconds))
    # Its settings are there, and what it keeps of its calls goes with them.
    with TemporaryDirectory() as folder:
        Path(folder, "schemathesis.toml").write_text(_CONTRACT, encoding="utf-8")
        done = subprocess.run(
            [
                *(schemathesis, "run", f"{address}/openapi.json"),
                *("--checks", checks, *length, *of_callers),
                *(("--phases", phases) if phases else ()),
                # GET there asks for a task whose id is "ping", and 422 says that this is none.
                *("--exclude-path", "/api/tasks/ping"),
                *("--continue-on-failure", "--suppress-health-check", "all", "--no-color"),
            ],
            cwd=folder,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return done.stdout if done.returncode else ""


def _wait_until_alive(process: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{address}/health/live").raise_for_status()
        except httpx.TransportError:
            assert process.poll() is None, "the API has ended"
            assert time.monotonic() < deadline, "the API does not answer"
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """Find a free port on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the authority's `ca.crt`, and `localhost.crt` with `localhost.key`."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    request = ("-subj", "/CN=localhost", "-keyout", "localhost.key", "-out", "localhost.csr")
    # Python 3.13 verifies strictly: it asks for `keyUsage` and `authorityKeyIdentifier`.
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    authority = ("-subj", "/CN=Test CA", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *key, *authority, "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *key, *request)
    signed_by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "localhost.csr", *signed_by, "-out", "localhost.crt")
    return folder


class RedisServer:
    """One server on 127.0.0.1, without persistence unless the options set it."""

    def __init__(self, directory: Path, *options: str, program: str | None = None) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command: Sequence[str] = [
            *(program or str(find_valkey()), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--dir", str(directory), "--save", "", "--loglevel", "warning", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            self._command,
            preexec_fn=signal_at_end_of_parent(signal.SIGKILL),  # noqa: PLW1509 (one thread)
        )
        try:
            # It starts within a few milliseconds, and on a busy machine within five seconds.
            with self.client(retry=Retry(ConstantBackoff(0.005), 1000)) as client:
                client.ping()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the server with SIGKILL, so that it cannot close its clients' connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, **options: object) -> redis.Redis:
        """Make a client that shares nothing with the code under test; its timeout is a minute."""
        options = {"decode_responses": True, "socket_timeout": 60, **options}
        return redis.Redis.from_url(self.url, **options)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow that use a Redis of their own, since each starts a server."""
    for item in items:
        if "use_redis" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def use_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., RedisServer]]:
    """Start a Redis with the test's own options; this process uses it until the test ends.

    For tests that fill, pause or limit it, as no test may do to the shared server.
    """
    with ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            server = stack.enter_context(RedisServer(tmp_path, *options))
            pool = pool_on(server.port)
            client = redis.Redis(connection_pool=pool)
            stack.callback(pool.disconnect)
            monkeypatch.setattr(redis_pool._shared, "client", client)
            _forget_connections()
            return server

        yield start
        monkeypatch.undo()
        _forget_connections()


def pool_on(port: int) -> redis_pool.BlockingPool:
    """Make a pool like this process's own, for the server on a port of 127.0.0.1."""
    there = settings.model_copy(
        update={"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port, "REDIS_DB": 0}
        | {"REDIS_PASSWORD": None, "REDIS_TLS": False}
        | {"redis_url_override": f"redis://127.0.0.1:{port}/0"}
    )
    return redis_pool.build_pool(there, "command")


def _forget_connections() -> None:
    # The next sender makes its channel on the current pool.
    kombu.pools.reset()
    service.celery_app._after_fork()  # type: ignore[attr-defined]
    service.celery_app.backend.__dict__.pop("client", None)

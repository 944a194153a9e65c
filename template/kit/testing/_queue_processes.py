"""Real worker, beat and Flower processes for tests, and what they log."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import kombu.pools
import pytest
import redis

from kit.devservices import signal_at_end_of_parent
from kit.places import service
from kit.redis import _pool as redis_pool
from kit.settings import BASE_DIR, settings
from kit.testing._redis_servers import RedisServer


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a Redis of its own starts a server, so it is slow."""
    for item in items:
        if "use_redis" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


START_SECONDS = 60
"""Much longer than a start takes, for a machine that is busy."""


class QueueProcess:
    """`celery -A app.core.celery <arguments>`, with the settings of the test run and some more."""

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
            # A test run that is killed leaves no process behind.
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
        """All that the process has written so far."""
        return "\n".join(self.lines)

    def wait_for(self, text: str, *, after: int = 0, seconds: float = START_SECONDS) -> str:
        """The first line with this text, from line number `after` on, as soon as it is written."""
        return self.wait_for_any(text, after=after, seconds=seconds)

    def wait_for_any(self, *texts: str, after: int = 0, seconds: float = START_SECONDS) -> str:
        """The first line with one of these texts; see `wait_for`."""

        def found() -> str | None:
            lines = self.lines[after:]
            return next((line for line in lines if any(text in line for text in texts)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), timeout=seconds)
            line = found()
        assert line is not None, f"none of {texts} was written:\n{self.output}"
        return line

    def exit_status(self) -> int:
        """The status with which the process has ended by itself."""
        status = self._process.wait(START_SECONDS)
        self._reader.join()
        return status

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process without a chance to say so to anybody."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process as a supervisor does."""
        if self.is_running():
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def at_start(directory: Path, code: str) -> dict[str, str]:
    """The environment in which a process of the service's runs some code before anything else.

    Args:
        directory: where a file for it may be written.
        code: Python, which may import the service.
    """
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(directory), str(BASE_DIR)])}


@pytest.fixture(scope="session")
def worker() -> Iterator[QueueProcess]:
    """A worker on the test run's Redis and queue, started once for the session."""
    with QueueProcess("worker") as process:
        process.wait_for("ready.")
        yield process


@pytest.fixture
def use_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., RedisServer]]:
    """Starts a Redis with options of the test's own, which this process uses until its end.

    For what must not be done to a server that others use: fill it, pause it, limit it.
    """
    with ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            server = stack.enter_context(RedisServer(tmp_path, *options))
            pool = pool_on(server.port)
            client = redis.Redis(connection_pool=pool)
            stack.callback(pool.disconnect)
            monkeypatch.setattr(redis_pool._process, "client", client)
            _forget_connections()
            return server

        yield start
        monkeypatch.undo()
        _forget_connections()


def pool_on(port: int) -> redis_pool.BlockingPool:
    """A pool such as this process's own, on what listens on a port of 127.0.0.1."""
    there = settings.model_copy(
        update={"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port, "REDIS_DB": 0}
        | {"REDIS_PASSWORD": None, "REDIS_TLS": False}
        | {"redis_url_override": f"redis://127.0.0.1:{port}/0"}
    )
    return redis_pool.build_pool(there, "command")


def _forget_connections() -> None:
    # The next sender makes its channel on the pool of the moment.
    kombu.pools.reset()
    service.celery_app._after_fork()  # type: ignore[attr-defined]
    service.celery_app.backend.__dict__.pop("client", None)

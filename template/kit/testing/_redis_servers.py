"""Redis servers of a test's own, to fill, stop and restart."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import kombu.pools
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from kit.devservices import find_valkey, signal_at_end_of_parent
from kit.places import service
from kit.redis import _pool as redis_pool
from kit.settings import settings
from kit.testing._processes import free_port


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

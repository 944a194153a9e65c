"""One blocking pool of connections to Redis for each process, which keeps the plan's limit.

All commands of a process share `REDIS_POOL_SIZE` connections: those of Celery's producers and
results (`kit.redis._transport`), of RedBeat, and of the service's own code through
`redis_client()`. Only consumers, which wait for messages, have connections of their own: see
`kit.connections`.

A server does not notice that a link has died: it keeps a connection that the process has abandoned,
for minutes, while the process holds another in its place. Together they would exceed its budget. So
each connection, as soon as it is open, has the server close those that this process has abandoned;
most are closed already, and then the command does nothing.
"""

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from queue import Empty, LifoQueue
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import redis
from kombu.exceptions import LimitExceeded
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.utils import str_if_bytes

from kit.process import Role, client_name, pool_use, this_process
from kit.settings import Settings, settings, tls_options

Identity = tuple[str, str]
"""Number and address of a connection, as the server knows it."""

_abandoned: set[Identity] = set()

_Base: Any = object


@cache
def closing_abandoned(base: Any) -> Any:
    """Derive a class from `base` whose connections close the process's abandoned ones."""
    return type(base.__name__, (_ClosingAbandoned, base), {})


class RedisGivenUpError(redis.RedisError):
    """This process ends, and Redis did not answer.

    Not a `redis.ConnectionError`: kombu and Celery would try again, some of them without end.
    """


class _End:
    """The end of a process, which a silent Redis must not put off beyond its grace period."""

    PATIENCE = 5.0
    """Seconds from the first failure to the last attempt; each takes up to `SOCKET_TIMEOUT`."""

    has_begun = False
    _failed_at: float | None = None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Within, a connection is opened; not any more where none could be since the end began."""
        if self._failed_at and time.monotonic() - self._failed_at > self.PATIENCE:
            raise RedisGivenUpError("Redis did not answer, and this process ends")
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError):
            if self.has_begun and self._failed_at is None:
                self._failed_at = time.monotonic()
            raise
        self._failed_at = None


process_end = _End()


class _ClosingAbandoned(_Base):  # type: ignore[misc]
    _identity: Identity | None = None

    def connect(self) -> None:
        with process_end.attempt():
            super().connect()

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health)
        stale = _abandoned.copy()
        kills = [("CLIENT", "KILL", "ID", number, "ADDR", address) for number, address in stale]
        info = self._ask(("CLIENT", "INFO"), *kills)
        _abandoned.difference_update(stale)
        if found := re.match(r"id=(\d+) addr=(\S+)", info):
            self._identity = found[1], found[2]

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        super().disconnect(*args, **kwargs)
        # After a fork the child must not close its parent's connections.
        if self._identity and self.pid == os.getpid():
            _abandoned.add(self._identity)
        self._identity = None

    def _ask(self, *commands: tuple[str, ...]) -> str:
        """Send the commands, and return the first one's answer; empty where a plan forbids it."""
        for command in commands:
            self.send_command(*command, check_health=False)
        answers = []
        for _ in commands:
            try:
                answers.append(str(str_if_bytes(self.read_response())))
            except redis.ResponseError:
                answers.append("")
        return answers[0]


CONNECT_TIMEOUT = 3.0
SOCKET_TIMEOUT = 10.0
"""Seconds. A command on the shared pool never blocks at the server, so 10 s mean a dead link."""

HEALTH_CHECK_INTERVAL = 25
"""Seconds of idleness after which a connection is tested before use: firewalls drop idle ones."""


Item = TypeVar("Item")


class FairQueue(LifoQueue[Item]):
    """A bounded stack (last in, first out) that serves callers in their order of arrival.

    The standard library's queues hand a returned item to the thread that asks at that moment: one
    that has just returned a connection takes it again, and those that wait start over, until they
    time out.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._waiters: deque[threading.Condition] = deque()

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take an item, at once or when it is this caller's turn.

        Raises:
            Empty: when none came within `timeout` seconds.
        """
        with self.mutex:
            if self._qsize() and not self._waiters:
                return self._get()
            if not block:
                raise Empty
            own = threading.Condition(self.mutex)
            self._waiters.append(own)
            try:
                if not own.wait_for(lambda: self._qsize() and self._waiters[0] is own, timeout):
                    raise Empty
                return self._get()
            finally:  # also when a signal's handler raises: the next in line must not wait for it
                self._waiters.remove(own)
                self._wake_first()

    def _put(self, item: Item) -> None:
        super()._put(item)
        self._wake_first()

    def _wake_first(self) -> None:
        if self._waiters and self._qsize():
            self._waiters[0].notify()


class RedisPoolBusyError(LimitExceeded):
    """All connections of this process stayed in use for `REDIS_POOL_TIMEOUT` seconds.

    Not a `redis.ConnectionError`: kombu would try again, and so wait the timeout several times.
    """


class BlockingPool(redis.BlockingConnectionPool):
    """A pool whose callers wait for a free connection, and get a clear error when none is free."""

    def get_connection(self, *_args: Any, **_options: Any) -> redis.Connection:
        """Take a connection, at once or after waiting.

        Raises:
            RedisPoolBusyError: when none is free within the timeout.
            redis.ConnectionError: when the server cannot be reached.
        """
        if not self.pool.empty():
            return self._get_connection()
        with pool_use["redis"].waiting(RedisPoolBusyError):
            return self._get_connection()

    def _get_connection(self) -> redis.Connection:
        try:
            connection: redis.Connection = super().get_connection()  # type: ignore[no-untyped-call]
        except redis.ConnectionError as error:
            if isinstance(error.__context__, Empty):
                raise RedisPoolBusyError(
                    f"all {self.max_connections} Redis connections of this process were in use "
                    f"for {self.timeout:g} s (REDIS_POOL_SIZE, REDIS_POOL_TIMEOUT)"
                ) from None
            raise
        return connection


def build_pool(configuration: Settings, role: Role) -> BlockingPool:
    """Make a pool of `REDIS_POOL_SIZE` connections; none is opened before it is needed.

    Replies are text: results, schedules and messages are JSON, keys are plain words.
    """
    options: dict[str, Any] = {
        "max_connections": configuration.REDIS_POOL_SIZE,
        "timeout": configuration.REDIS_POOL_TIMEOUT,
        "queue_class": FairQueue,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL,
        "decode_responses": True,
        "client_name": client_name(configuration, role),
        # Only the caller knows whether a command may run twice, so only the caller retries.
        "retry": Retry(NoBackoff(), 0),
    }
    options |= tls_options(configuration)
    pool = BlockingPool.from_url(configuration.REDIS_URL, **options)
    pool.connection_class = closing_abandoned(pool.connection_class)
    return pool


class _SharedClient:
    """This process's client, with its pool; made when it is first used."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: redis.Redis | None = None

    def name_connections(self) -> None:
        if self.client is not None:
            pool = self.client.connection_pool
            pool.connection_kwargs["client_name"] = client_name(settings, this_process.role)


_shared = _SharedClient()
# A forked worker keeps the pool object, which redis-py empties in the child by itself.
os.register_at_fork(after_in_child=_shared.name_connections)
this_process.on_change(_shared.name_connections)


def redis_client() -> redis.Redis:
    """The process's client for all commands, safe to use from all threads.

    Keys of the service's own begin with `settings.REDIS_KEY_PREFIX`. From async code use
    `run_redis_call`.
    """
    with _shared.lock:
        if _shared.client is None:
            pool = build_pool(settings, this_process.role)
            _shared.client = redis.Redis(connection_pool=pool)
        return _shared.client


# Its own limiter: a stalled Redis must not use up the threads that sync endpoints and the admin
# need. More threads than connections would only wait in the pool instead.
_call_limiter = anyio.CapacityLimiter(settings.REDIS_POOL_SIZE)


Result = TypeVar("Result")


async def run_redis_call(call: Callable[[], Result]) -> Result:
    """Run a call to Redis in a thread, so that the event loop is not blocked.

    Raises:
        RedisPoolBusyError: when no thread is free within `REDIS_POOL_TIMEOUT` seconds. A call that
            has begun is never abandoned: its result or error always reaches the caller.
    """
    with anyio.move_on_after(settings.REDIS_POOL_TIMEOUT):
        return await anyio.to_thread.run_sync(call, limiter=_call_limiter)
    raise RedisPoolBusyError(
        f"no thread for Redis became free in {settings.REDIS_POOL_TIMEOUT:g} s: "
        "earlier calls are still waiting for it"
    )


COUNTS_KEY = f"{settings.REDIS_KEY_PREFIX}counts"
"""A hash: how often each event has been counted since Redis was empty."""


def count_event(event: str, client: Any = None) -> None:
    """Count an event one higher; not where Redis is away, since counting must not fail its caller.

    Args:
        event: its name, for example `outbox-failed:sms`.
        client: a pipeline that the caller executes; the process's client when left out.
    """
    with suppress(redis.RedisError, RedisPoolBusyError):
        (redis_client() if client is None else client).hincrby(COUNTS_KEY, event, 1)

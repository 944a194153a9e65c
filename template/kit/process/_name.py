"""The role of this process, the names of its connections, and how busy its pools of them are."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple

from kit.settings import Settings

Role = Literal["api", "worker", "worker-child", "beat", "flower", "command"]
"""A `worker-child` is a process that a prefork worker has forked."""

POSTGRES_NAME_BYTES = 63
"""Bytes of an application's name that PostgreSQL keeps.

Source: https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME
"""
POSTGRES_SERVICE_BYTES = 20


class ThisProcess:
    """The role of the running process: the one place where it is set and read."""

    def __init__(self) -> None:
        self.role: Role = "command"
        self._began_as = os.getpid()
        self._listeners: list[Callable[[], None]] = []

    def become(self, role: Role) -> None:
        """Set the role; connections that are made from now on carry it in their names."""
        self.role = role
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Register a function to be called after each change of the role."""
        self._listeners.append(listener)

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked from another one after the kit was imported."""
        return os.getpid() != self._began_as


this_process = ThisProcess()


class ProcessName(NamedTuple):
    """The parts of a name made by `client_name` or `application_name`."""

    service: str
    role: str
    host: str
    pid: int


def client_name(configuration: Settings, role: Role) -> str:
    """Name in Redis's `CLIENT LIST`: service, role and process, as `shop:worker@host:4711`."""
    return f"{service_name(configuration)}:{role}@{_host()}:{os.getpid()}"


def application_name(configuration: Settings, role: Role) -> str:
    """The same name in 63 bytes, for `pg_stat_activity`: a long host's name is cut at its start.

    In a cluster, hosts are called `shop-worker-7d9f8b6c5d-x2x4z` and differ at their end, and each
    has its process 1.
    """
    head = f"{service_name(configuration)[:POSTGRES_SERVICE_BYTES]}:{role}@"
    tail = f":{os.getpid()}"
    return head + _host()[-(POSTGRES_NAME_BYTES - len(head) - len(tail)) :] + tail


def service_name(configuration: Settings) -> str:
    """`PROJECT_NAME` in characters that both servers accept in a name."""
    return re.sub(r"[^a-z0-9]+", "-", configuration.PROJECT_NAME.lower()).strip("-") or "service"


def parse_process_name(name: str) -> ProcessName | None:
    """Split a connection's name into its parts; None for a name of another form."""
    match = re.fullmatch(r"([a-z0-9-]+):([a-z-]+)@(\S+):(\d+)", name)
    return ProcessName(match[1], match[2], match[3], int(match[4])) if match else None


def _host() -> str:
    return re.sub(r"[^!-~]+", "-", socket.gethostname())


@dataclass
class PoolUse:
    """What callers of one pool met with."""

    waits: int = 0
    """Callers that found every connection in use."""
    wait_seconds: float = 0
    """Time that they waited, all together."""
    timeouts: int = 0
    """Those that got none in time."""
    refusals: int = 0
    """Connections that the server or its pooler refused, since it had none left."""

    @contextmanager
    def waiting(self, timeout: type[Exception]) -> Iterator[None]:
        """Count a caller that waits within, and `timeout` if that is how its wait ends."""
        began = perf_counter()
        try:
            yield
        except timeout:
            self.timeouts += 1
            raise
        finally:
            self.waits += 1
            self.wait_seconds += perf_counter() - began


pool_use = {pool: PoolUse() for pool in ("asyncpg", "psycopg2", "redis")}
"""By pool: `asyncpg` is that of requests, `psycopg2` that of the admin and of tasks."""

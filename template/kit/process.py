"""The running process: its name, its log, and the embedded servers that it uses.

Log lines are readable text on a developer's machine, one JSON object a line anywhere else. Modules
log with `logging.getLogger(__name__)`. Text for people goes into the message; values for programs
go into `extra={...}` as well, whose keys become keys of the JSON line. Every line carries the
request id, and the task id inside a task.
"""

import json
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

import psycopg2
from psycopg2.errors import DuplicateDatabase, UniqueViolation
from psycopg2.sql import SQL, Identifier

from kit.context import get_request_id, get_task_id
from kit.settings import (
    BASE_DIR,
    Settings,
    StartupError,
    devservices_package,
    known_secrets,
    local_addresses,
    settings,
)

if TYPE_CHECKING:
    from kit.devservices import Lease


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


SHORTEST_MASKED_SECRET = 6
"""Characters; masking a shorter secret would mask ordinary words."""

_OWN_KEYS = {
    *logging.makeLogRecord({}).__dict__,
    *("message", "asctime", "taskName", "prefix"),
    "color_message",  # uvicorn's
}
"""Attributes of every record, which are no keys of `extra`."""


def configure_logging() -> None:
    """Write the log of this process to standard error; a second call changes nothing.

    Standard error, so that a command's output (a token, for example) can be piped.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(ConsoleFormatter() if settings.is_local else JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, ConsoleFormatter | JsonFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.LOG_LEVEL)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # httpx logs every URL that it calls, with the query, which may hold a secret key.
    logging.getLogger("httpx").setLevel(max(logging.WARNING, root.level))
    # A line for each saved file is too much: uvicorn logs that it restarts.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    # Seven lines about Alembic's own modules, each time that it is imported.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    # `kit.http._middleware` writes the line instead, with request id and path template. Without
    # handlers uvicorn does not even format its own.
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("uvicorn.error").addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    """Cut the query off the address of a WebSocket, which uvicorn logs: it may hold a token."""
    if '"WebSocket %s"' in str(record.msg) and isinstance(record.args, tuple):
        record.args = (record.args[0], str(record.args[1]).partition("?")[0], *record.args[2:])
    return True


class ConsoleFormatter(logging.Formatter):
    """Formats lines as `12:30:01 INFO    [5f2c91aa] kit.http._routers: message`.

    An id of a trace that a record carries follows the request id.
    """

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-7s %(prefix)s%(name)s: %(message)s", datefmt="%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        """Format one record as a line, with its secrets masked."""
        ids = get_request_id()[:8], getattr(record, "trace_id", ""), getattr(record, "span_id", "")
        record.prefix = f"[{' '.join(filter(None, ids))}] " if any(ids) else ""
        return mask_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats one JSON object a line: timestamp (UTC), level, logger, message, ids, extra keys."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(default=str, ensure_ascii=False).encode

    def format(self, record: logging.LogRecord) -> str:
        """Format one record as a line, with its secrets masked."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := get_request_id():
            line["request_id"] = request_id
        if task_id := get_task_id():
            line["task_id"] = task_id.strip("[] ")
        line |= {k: value for k, value in record.__dict__.items() if k not in _OWN_KEYS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return mask_secrets(self._encode(line))


def mask_secrets(text: str) -> str:
    """Replace the settings' secrets, passwords inside URLs and bearer tokens with `***`.

    Those of every settings class that derives from `ServiceSettings`, as extensions' do.
    """
    signs, pattern = _pattern_of(frozenset(known_secrets))
    # Most lines hold none, and this check takes a tenth of the time.
    if not any(sign in text for sign in signs):
        return text
    return pattern.sub(lambda m: f"{m['url'] or m['scheme'] or ''}***", text)


@lru_cache(1)
def _pattern_of(secrets: frozenset[str]) -> tuple[tuple[str, ...], re.Pattern[str]]:
    # A secret with quotes or backslashes looks different inside of a JSON line, and in a URL.
    forms = {form for secret in secrets for form in _forms_of(secret)}
    long_enough = sorted((form for form in forms if len(form) >= SHORTEST_MASKED_SECRET), key=len)
    patterns = [
        r"(?P<url>://[^\s:/@\"]*:)[^\s/@\"]+(?=@)",
        r"(?P<scheme>\b[Bb]earer )[\w.~+/=-]+",
        *map(re.escape, reversed(long_enough)),
    ]
    return ("://", "earer ", *long_enough), re.compile("|".join(patterns))


def _forms_of(secret: str) -> list[str]:
    """The secret as it is, within a `repr`, in JSON and in a URL."""
    in_repr = secret.replace("\\", "\\\\")
    forms = [secret, in_repr, in_repr.replace("'", "\\'")]
    in_json = [
        json.dumps(form, ensure_ascii=each)[1:-1] for form in forms for each in (True, False)
    ]
    return [*forms, *in_json, quote(secret, safe="")]


MAINTENANCE_DATABASE = "postgres"

_lease: "Lease | None" = None
_starting = threading.Lock()


def start_local_services() -> None:
    """Start the embedded servers that the settings use; they run until this process ends.

    Does nothing where both database and Redis are configured, and when called again.

    Raises:
        StartupError: when a server cannot be started; the message says what to do.
    """
    global _lease  # noqa: PLW0603 (one lease a process, kept until its end)
    if not (settings.uses_local_postgres or settings.uses_local_redis):
        return
    with _starting:
        if _lease is not None:
            return
        devservices = devservices_package()
        try:
            _lease = devservices.lease(
                BASE_DIR, postgres=settings.uses_local_postgres, redis=settings.uses_local_redis
            )
        except devservices.DevServicesError as error:
            raise StartupError(str(error)) from None
        if settings.uses_local_postgres:
            _create_database_if_missing()


@contextmanager
def temporary_postgres() -> Iterator[str]:
    """Start an empty PostgreSQL, removed at the end with its data; yields its asyncpg URL.

    Raises:
        StartupError: when it cannot be started; the message says what to do.
    """
    try:
        from kit import devservices  # noqa: PLC0415 (absent in production)
    except ImportError as error:
        raise StartupError(
            f"a database for comparison cannot be started here ({error}). Install the development "
            "dependencies with `uv sync`, or set DATABASE_URL for this one command to a "
            "PostgreSQL on this machine whose user may create databases."
        ) from None
    try:
        with devservices.temporary_servers(redis=False) as addresses:
            url = addresses.postgres.url.replace("postgresql", "postgresql+asyncpg", 1)
            yield f"{url}/{MAINTENANCE_DATABASE}"
    except devservices.DevServicesError as error:
        raise StartupError(str(error)) from None


def local_services_lease() -> "Lease | None":
    """This process's lease on the embedded servers, once it has called `start_local_services`."""
    return _lease


def _create_database_if_missing() -> None:
    """Create `POSTGRES_DB` on the embedded server, which begins with the database `postgres`."""
    if settings.POSTGRES_DB == MAINTENANCE_DATABASE:
        return
    address = local_addresses().postgres
    connection = psycopg2.connect(f"{address.url}/{MAINTENANCE_DATABASE}")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor, suppress(DuplicateDatabase, UniqueViolation):
            cursor.execute(SQL("CREATE DATABASE {}").format(Identifier(settings.POSTGRES_DB)))
    finally:
        connection.close()

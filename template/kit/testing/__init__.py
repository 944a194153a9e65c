"""Helpers for tests. `kit.testing.fixtures` has the fixtures.

A test run has to choose its servers and settings, with `prepare_environment`, before any module of
the service is imported. So names of the modules beside this one are imported when they are first
used.

Without a configured database the run has a temporary server of its own. With one, it uses a
database there whose name ends in `_test`. Redis is a temporary one in either case: a run starts
more processes at once than a small plan has connections for, and kills and fills the server.
"""

import atexit
import gc
import json
import os
import re
import secrets
import sys
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from kit.devservices import starting_servers, wait_for_servers
from kit.places import service
from kit.settings import BASE_DIR, LOCAL_WITH_REMOTE_SERVERS, ServiceSettings, Settings

if TYPE_CHECKING:
    import pytest

    from kit.testing._databases import (
        GuardedRoute,
        alembic,
        catalogue,
        committing_workers,
        create_database,
        differences,
        drop_database,
        empty_database,
        guarded_routes,
        migrate_with_rows,
        read_session_on,
        session_on,
    )
    from kit.testing._processes import (
        QueueProcess,
        RedisServer,
        broken_contract,
        free_port,
        own_database,
        run_api,
    )
    from kit.testing.rehearsal import fill_tables


gc.disable()  # until the service is imported, whose modules stay: a sixth of what that takes

SKELETON = "_example"
"""The extension that tests enable too, as long as its owner has not deleted it."""

POSTGRES_NAME_LIMIT = 63
"""Bytes in a PostgreSQL identifier; the server truncates longer names silently."""

BASE_DATABASE = "TEST_BASE_DATABASE"
"""Environment variable that names the database from which test databases are created."""

SERVERS = "TEST_SERVERS"
"""Environment variable with the temporary servers' directory and names, as JSON."""


def name_of_test_database(database: str, worker: str | None = None) -> str:
    """The name `<database>_test`, or `<database>_gw0_test` for a worker of pytest-xdist.

    The first part is shortened, at the boundary of a character, to keep the name within 63 bytes.
    """
    suffix = f"_{worker}_test" if worker else "_test"
    database = re.sub(r"(_gw\d+)?_test$", "", database)
    room = POSTGRES_NAME_LIMIT - len(suffix)
    return database.encode()[:room].decode(errors="ignore") + suffix


def prepare_environment() -> None:
    """Set the servers of the test run for this process, and all that it starts.

    The first process of a run begins to start the temporary servers; the workers of pytest-xdist
    inherit their addresses. `kit.testing.fixtures` waits for them before the first test.
    """
    if "app.core.database" in sys.modules:
        raise RuntimeError("the service was imported before the tests chose a database for it")
    # A worker inherits the choice of the first process. A run that a test of another run starts
    # inherits only the worker's name.
    worker = os.environ.get("PYTEST_XDIST_WORKER") if BASE_DATABASE in os.environ else None
    if worker is None:
        _choose_servers()
    else:
        # Each worker of pytest-xdist has task queues of its own too.
        os.environ["REDIS_KEY_PREFIX"] += f"{worker}:"
    configuration: Any = service.module("core.config")
    settings = configuration.Settings.load()
    os.environ["POSTGRES_DB"] = name_of_test_database(settings.POSTGRES_DB, worker)
    if settings.database_url_override:
        raw = settings.model_copy(update={"POSTGRES_DB": os.environ["POSTGRES_DB"]}).DATABASE_URL
        os.environ["DATABASE_URL"] = raw
    configuration.settings = configuration.Settings.load()


def _choose_servers() -> None:
    os.environ["ENVIRONMENT"] = "local"
    os.environ["SECRET_KEY"] = secrets.token_urlsafe(32)
    configured: Settings = service.module("core.config").Settings.load()
    skeleton = [SKELETON] if (BASE_DIR / "app" / "extensions" / SKELETON).is_dir() else []
    os.environ["ENABLED_EXTENSIONS"] = ",".join([*skeleton, *configured.ENABLED_EXTENSIONS])
    os.environ[BASE_DATABASE] = configured.POSTGRES_DB
    os.environ["ALLOW_UNSAFE"] = ",".join([*configured.ALLOW_UNSAFE, LOCAL_WITH_REMOTE_SERVERS])
    os.environ["REDIS_CONNECTION_LIMIT"] = "1000"
    os.environ["REDIS_KEY_PREFIX"] = f"test-{secrets.token_hex(4)}:"
    # The URL of a configured database names its TLS mode; the test database's URL does not.
    os.environ["POSTGRES_SSLMODE"] = configured.sslmode
    os.environ["POSTGRES_POOLER"] = configured.pooler_mode
    servers = ExitStack()
    atexit.register(servers.close)
    names = ["redis", *(["postgres"] if configured.uses_local_postgres else [])]
    directory, addresses = servers.enter_context(starting_servers(names))
    os.environ[SERVERS] = json.dumps([str(directory), names])
    if configured.uses_local_postgres:
        os.environ[BASE_DATABASE] = "postgres"
        os.environ["DATABASE_URL"] = f"{addresses.postgres.url}/{configured.POSTGRES_DB}"
    os.environ["REDIS_URL"] = addresses.redis.url


@cache
def wait_for_test_servers() -> None:
    """Wait for the servers that this run, or the one that has started this process, has begun.

    Raises:
        DevServicesError: when one cannot be started; the message says what to do.
    """
    directory, names = json.loads(os.environ[SERVERS])
    wait_for_servers(Path(directory), names)


def change_settings(
    monkeypatch: "pytest.MonkeyPatch", changed: ServiceSettings | None = None, /, **values: object
) -> None:
    """Set fields of `settings`, or of an extension's settings, until the test ends.

    The instance is frozen for the service; a test bypasses that, since every module has imported
    this very object.
    """
    changed = service.module("core.config").settings if changed is None else changed
    for name, value in values.items():
        assert name in type(changed).model_fields
        monkeypatch.setitem(vars(changed), name, value)


_MODULES = [each.name for each in iter_modules(__path__) if each.name.startswith("_")]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    for module in _MODULES if not name.startswith("_") else ():
        if (found := getattr(import_module(f"{__name__}.{module}"), name, None)) is not None:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Helpers for tests. `kit.testing.fixtures` has the fixtures.

A test run has to choose its servers, with `prepare_environment`, before any module of the service
is imported. So each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.testing._databases import create_database, drop_database, empty_database
    from kit.testing._environment import change_settings, prepare_environment
    from kit.testing._migrations import alembic, catalogue, differences, migrate_with_rows
    from kit.testing._processes import (
        QueueProcess,
        broken_contract,
        free_port,
        own_database,
        run_api,
    )
    from kit.testing._redis_servers import RedisServer
    from kit.testing._rows import fill_tables
    from kit.testing._sessions import (
        GuardedRoute,
        committing_workers,
        guarded_routes,
        read_session_on,
        session_on,
    )

_MODULES = {
    "GuardedRoute": "_sessions",
    "QueueProcess": "_processes",
    "RedisServer": "_redis_servers",
    "alembic": "_migrations",
    "broken_contract": "_processes",
    "catalogue": "_migrations",
    "change_settings": "_environment",
    "committing_workers": "_sessions",
    "create_database": "_databases",
    "differences": "_migrations",
    "drop_database": "_databases",
    "empty_database": "_databases",
    "fill_tables": "_rows",
    "free_port": "_processes",
    "guarded_routes": "_sessions",
    "migrate_with_rows": "_migrations",
    "own_database": "_processes",
    "prepare_environment": "_environment",
    "read_session_on": "_sessions",
    "run_api": "_processes",
    "session_on": "_sessions",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Helpers for tests. `kit.testing.fixtures` has the fixtures.

A test run has to choose its servers, with `prepare_environment`, before any module of the service
is imported. So each name is imported when it is first used.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from kit.testing._environment import change_settings, prepare_environment
    from kit.testing._processes import (
        QueueProcess,
        RedisServer,
        broken_contract,
        free_port,
        own_database,
        run_api,
    )
    from kit.testing._rows import fill_tables

_MODULES = [each.name for each in iter_modules(__path__) if each.name.startswith("_")]
_MODULES.sort(key=lambda name: name != "_environment")  # it imports no module of the service


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    for module in _MODULES if not name.startswith("_") else ():
        if (found := getattr(import_module(f"{__name__}.{module}"), name, None)) is not None:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

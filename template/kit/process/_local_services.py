"""The embedded servers, used in place of those that are not configured; see `devservices/`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg2
from psycopg2.errors import DuplicateDatabase, UniqueViolation
from psycopg2.sql import SQL, Identifier

from kit.settings import BASE_DIR, StartupError, devservices_package, local_addresses, settings

if TYPE_CHECKING:
    from kit.devservices import Lease

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

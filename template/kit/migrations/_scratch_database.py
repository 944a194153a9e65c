"""A scratch database to compare the models with: never the developer's own.

Tables that a developer's database happens to have, made by hand or by another branch of the code,
would otherwise end up in a migration.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic.runtime.migration import MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.database import connect
from kit.migrations._state import VERSION_TABLE
from kit.migrations._upgrade import upgrade_to_heads
from kit.process import temporary_postgres
from kit.settings import LOOPBACK_HOSTS, settings


@asynccontextmanager
async def scratch_database() -> AsyncIterator[AsyncConnection]:
    """Connect to a new empty database, which is dropped at the end.

    It is on the configured server, if that runs on this machine and its user may create databases:
    its version and its PostgreSQL extensions are the right ones. Otherwise it is on a temporary
    server, since neither a hosted project nor a pooler is the place for temporary databases.

    Raises:
        StartupError: when neither is available.
    """
    name = f"scratch_{secrets.token_hex(8)}"
    if _server_is_on_this_machine() and await _create_database(name):
        try:
            url = make_url(settings.DATABASE_URL).set(database=name)
            async with connect(url.render_as_string(hide_password=False)) as connection:
                yield connection
        finally:
            await _run(f"DROP DATABASE {name} WITH (FORCE)")
    else:
        with temporary_postgres() as url_of_temporary:
            async with connect(url_of_temporary, connect_args={}) as connection:
                yield connection


def _server_is_on_this_machine() -> bool:
    if settings.uses_local_postgres:
        return True
    host = settings.POSTGRES_HOST or ""
    return settings.pooler_mode == "none" and (host in LOOPBACK_HOSTS or host.startswith("/"))


async def _create_database(name: str) -> bool:
    """Create a database; False when the configured user may not."""
    try:
        await _run(f"CREATE DATABASE {name} TEMPLATE template0")
    except ProgrammingError as error:
        insufficient_privilege = "42501"
        if getattr(error.orig, "pgcode", None) != insufficient_privilege:
            raise
        return False
    return True


async def _run(statement: str) -> None:
    async with connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(statement))


def migrate_scratch(connection: Connection, script: ScriptDirectory) -> dict[str, str]:
    """Bring an empty database to the heads.

    Returns:
        For each table the label of the branch whose revision created it.
    """
    creators: dict[str, str] = {}

    def note_new_tables(*, step: MigrationInfo, **_rest: object) -> None:
        tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        revision = script.get_revision(str(step.up_revision_id))
        branch = min(revision.branch_labels, default="")
        for table in tables - creators.keys():
            creators[table] = branch

    upgrade_to_heads(connection, script, on_version_apply=note_new_tables)
    return creators

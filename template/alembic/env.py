"""Runs at each Alembic command that touches the database or writes a revision."""

import asyncio
import logging
from argparse import Namespace
from contextlib import nullcontext
from functools import partial
from logging.config import fileConfig
from typing import Any

from alembic import command, context
from dotenv import load_dotenv
from sqlalchemy import Connection

from app.core.config import BASE_DIR, settings
from app.core.database_connection import connect
from app.core.local_services import start_local_services
from app.core.migrations.autogenerate import RevisionRequest, complete_revision, render_item
from app.core.migrations.branches import (
    SERVICE,
    load_metadata,
    refuse_missing_dependencies,
    version_locations,
)
from app.core.migrations.downgrade import confirm_downgrade
from app.core.migrations.scratch_database import migrate_scratch, scratch_database
from app.core.migrations.state import (
    explain_ahead,
    note_applied,
    read_rows,
    read_state,
    refuse_unknown_revisions,
)
from app.core.migrations.upgrade import lock_migrations

# The settings have read `.env` already; a migration may want a variable that they do not know.
load_dotenv(BASE_DIR / ".env")

config = context.config
script = context.script
options = config.cmd_opts or Namespace(cmd=(None,))
x_arguments = context.get_x_argument(as_dictionary=True)
alembic_command = options.cmd[0]
is_autogenerate = getattr(options, "autogenerate", False)
target_metadata = load_metadata()

# Follows ENABLED_EXTENSIONS. In time, since no revision has been read yet.
script.version_locations = [str(folder) for folder in version_locations()]
refuse_missing_dependencies(script)


def configure(creators: dict[str, str] | None = None, **where: Any) -> None:  # noqa: ANN401 (Alembic's)
    """Set up the context; `where` says which database, if any."""
    request = RevisionRequest(
        branch=x_arguments.get("extension") or SERVICE,
        is_autogenerate=is_autogenerate,
        creators=creators or {},
    )
    context.configure(
        target_metadata=target_metadata,
        compare_server_default=True,
        render_item=render_item,
        process_revision_directives=partial(complete_revision, request, script, target_metadata),
        on_version_apply=note_applied,  # type: ignore[arg-type] # is called with keywords
        **where,
    )


def compare(connection: Connection) -> None:
    """Compare the models with an empty database that every migration has been applied to."""
    creators = migrate_scratch(connection, script)
    configure(creators, connection=connection)
    context.run_migrations()


def migrate(connection: Connection) -> None:
    """Run the command in one transaction, alone: so two containers can upgrade at a time."""
    configure(connection=connection)
    with context.begin_transaction():
        lock_migrations(connection)
        state = read_state(connection, script, target_metadata)
        if alembic_command is command.upgrade and state.is_ahead and "leave-ahead" in x_arguments:
            # Code that was rolled back has nothing to apply, and has to start all the same.
            logging.getLogger("alembic").warning("%s", explain_ahead(state))
            return
        if not getattr(options, "purge", False):
            refuse_unknown_revisions(state)
        if alembic_command is command.downgrade:
            confirm_downgrade(
                script,
                read_rows(connection),
                options.revision,
                is_confirmed="yes" in x_arguments,
            )
        context.run_migrations()


async def run_async_migrations() -> None:
    """Run the command on the database that it is about."""
    if is_autogenerate or alembic_command is command.check:
        async with scratch_database() as connection:
            await connection.run_sync(compare)
    else:
        async with connect() as connection:
            await connection.run_sync(migrate)


def run_without_database() -> None:
    """Print SQL (`--sql`), or run a command that is about files alone."""
    prints_sql = context.is_offline_mode()
    configure(
        url=settings.DATABASE_URL,
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
        as_sql=True,
    )
    with context.begin_transaction() if prints_sql else nullcontext():
        context.run_migrations()


def needs_database() -> bool:
    """Whether the command reads or changes a database."""
    if alembic_command is command.history:
        return bool(options.indicate_current) or "current" in (options.rev_range or "")
    if alembic_command is command.revision:
        return is_autogenerate
    return alembic_command is not command.merge


if config.config_file_name is not None and config.cmd_opts is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode() or not needs_database():
    run_without_database()
else:
    start_local_services()
    asyncio.run(run_async_migrations())

"""Runs an Alembic command for `alembic/env.py`, on the database that it needs."""

import asyncio
import logging
from argparse import Namespace
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from functools import partial
from logging.config import fileConfig
from typing import Any

from alembic import command, context
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from alembic.util import CommandError
from dotenv import load_dotenv
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from kit.connections import refuse_more_than_the_plan
from kit.database import connect
from kit.migrations._autogenerate import RevisionRequest, complete_revision, render_item
from kit.migrations._branches import (
    SERVICE,
    History,
    load_metadata,
    refuse_missing_dependencies,
    version_locations,
)
from kit.migrations._downgrade import confirm_downgrade
from kit.migrations._reset import adopt_forgotten
from kit.migrations._scratch_database import (
    kept_defaults,
    migrate_scratch,
    scratch_database,
)
from kit.migrations._state import (
    complete_note,
    explain_ahead,
    note_applied,
    read_rows,
    read_state,
    refuse_unknown_revisions,
)
from kit.migrations._upgrade import migrate_in_turn, missing_revisions
from kit.process import JsonFormatter, start_local_services
from kit.settings import BASE_DIR, settings


class AlembicCommand:
    """The current Alembic command, with its options."""

    def __init__(self) -> None:
        """Read the command line and the revisions."""
        # The settings have read `.env` already; a migration may need a variable unknown to them.
        load_dotenv(BASE_DIR / ".env")
        self.config = context.config
        self.script = context.script
        self.options = self.config.cmd_opts or Namespace(cmd=(None,))
        self.x_arguments = context.get_x_argument(as_dictionary=True)
        self.command = self.options.cmd[0]
        self.is_autogenerate = getattr(self.options, "autogenerate", False)
        self.metadata = load_metadata()
        # Depends on ENABLED_EXTENSIONS. Not too late, since no revision has been read yet.
        self.script.version_locations = [str(folder) for folder in version_locations()]
        refuse_missing_dependencies(self.script)

    def run(self) -> None:
        """Run the command, on a database where it needs one."""
        if self.config.config_file_name is not None and self.config.cmd_opts is not None:
            fileConfig(self.config.config_file_name, disable_existing_loggers=False)
            for handler in () if settings.is_local else logging.getLogger().handlers:
                handler.setFormatter(JsonFormatter())
        if context.is_offline_mode() or not self.needs_database():
            self.run_without_database()
        else:
            if self.command is command.upgrade:
                refuse_more_than_the_plan(settings)  # for what would then refuse to start
            start_local_services()
            try:
                asyncio.run(self.run_async_migrations())
            except DBAPIError as error:
                cause = f"{error.orig}".rpartition("'>: ")[2]
                raise CommandError(f"{cause}\nin {error.statement}") from None

    def configure(self, history: History | None = None, **where: Any) -> None:
        """Set up Alembic's context; `where` names the database, if any."""

        def is_ours(_name: str | None, kind: str, parents: Any) -> bool:
            table = parents.get("schema_qualified_table_name")
            return kind != "table" or history is None or table in history.tables

        request = RevisionRequest(
            branch=self.x_arguments.get("extension") or SERVICE,
            is_autogenerate=self.is_autogenerate,
            history=history,
        )
        context.configure(
            target_metadata=self.metadata,
            compare_server_default=True,
            include_schemas=True,
            include_name=is_ours,
            autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
            render_item=render_item,
            process_revision_directives=partial(
                complete_revision, request, self.script, self.metadata
            ),
            on_version_apply=note_applied,  # type: ignore[arg-type] # is called with keywords
            **where,
        )

    def compare(self, connection: Connection) -> None:
        """Compare the models with a new database that has all migrations."""
        history = migrate_scratch(connection, self.script)
        self.configure(history, connection=connection)
        with kept_defaults(connection, self.metadata):
            context.run_migrations()

    def migrate(self, connection: Connection) -> None:
        """Run the command under a lock, so that two containers can upgrade."""
        with connection.begin():
            revisions = self.revisions_to_run(read_rows(connection))

        def configure(each_in_its_own: bool) -> MigrationContext:
            self.configure(connection=connection, transaction_per_migration=each_in_its_own)
            return context.get_context()

        migrate_in_turn(connection, revisions, configure, lambda _: self.run_locked(connection))

    def run_locked(self, connection: Connection) -> None:
        """Run the command while no other process migrates."""
        state = read_state(connection, self.script, self.metadata)
        if self.command is command.upgrade and state.is_ahead and "leave-ahead" in self.x_arguments:
            # Code that was rolled back has nothing to apply, and has to start nevertheless.
            logging.getLogger("alembic").warning("%s", explain_ahead(state))
            complete_note(connection, self.script)
            return
        if not getattr(self.options, "purge", False):
            refuse_unknown_revisions(state)
        if self.command is command.downgrade:
            confirm_downgrade(
                self.script,
                read_rows(connection),
                self.options.revision,
                is_confirmed="yes" in self.x_arguments,
            )
            self.x_arguments["yes"] = ""  # a retry does not ask again
        if self.command is command.upgrade:
            adopt_forgotten(connection, self.script, self.metadata)
        context.run_migrations()
        if self.command is command.upgrade:
            complete_note(connection, self.script)

    def revisions_to_run(self, applied: Collection[str]) -> Iterable[Script]:
        """Revisions that the command may run: those that are missing, or all for a downgrade."""
        every = list(self.script.walk_revisions())
        if self.command is command.downgrade:
            return every
        if self.command is not command.upgrade:
            return []
        known = {revision.revision for revision in every}
        return missing_revisions(self.script, known.intersection(applied))

    async def run_async_migrations(self) -> None:
        """Run the command on the scratch database for a comparison, else on the configured one."""
        if self.is_autogenerate or self.command is command.check:
            async with scratch_database() as connection:
                await connection.run_sync(self.compare)
        else:
            async with connect() as connection:
                await connection.run_sync(self.migrate)

    def run_without_database(self) -> None:
        """Print SQL (`--sql`), or run a command that needs files only."""
        if self.command is command.merge:
            self.refuse_one_head()
        prints_sql = context.is_offline_mode()
        self.configure(
            url=settings.DATABASE_URL,
            dialect_opts={"paramstyle": "named"},
            literal_binds=True,
            as_sql=True,
        )
        with context.begin_transaction() if prints_sql else nullcontext():
            context.run_migrations()

    def refuse_one_head(self) -> None:
        """Refuse a merge of one revision, for which Alembic would write an empty one."""
        if len(set(self.script.get_revisions(self.options.revisions))) < 2:  # noqa: PLR2004
            given = " ".join(self.options.revisions)
            raise CommandError(f"there is nothing to join: {given} is one revision")

    def needs_database(self) -> bool:
        """Whether the command reads or changes a database."""
        if self.command is command.history:
            return bool(self.options.indicate_current) or "current" in (
                self.options.rev_range or ""
            )
        if self.command is command.revision:
            return self.is_autogenerate
        return self.command is not command.merge


def run_alembic() -> None:
    """Run the Alembic command that has loaded `alembic/env.py`."""
    AlembicCommand().run()

"""Runs an Alembic command for `alembic/env.py`, on the database that it needs.

Also what ends: a downgrade is confirmed, in which Alembic also reverts all that depends on the
target; a database is emptied; an extension that left is forgotten, and adopted when it is back.
"""

import asyncio
import logging
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from functools import partial
from logging.config import fileConfig
from typing import Any

from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from dotenv import load_dotenv
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.exc import DBAPIError, NoReferencedTableError

from kit.connections import refuse_more_than_the_plan
from kit.database import connect
from kit.extensions import enabled_extensions
from kit.migrations._autogenerate import RevisionRequest, complete_revision, render_item
from kit.migrations._branches import (
    SERVICE,
    History,
    applied_tips,
    complete_note,
    explain_ahead,
    extension_of,
    heads_of,
    load_metadata,
    note_applied,
    read_note,
    read_rows,
    read_state,
    refuse_missing_dependencies,
    refuse_unknown_revisions,
    version_location,
    version_locations,
    write_note,
)
from kit.migrations._upgrade import (
    kept_defaults,
    lock_migrations,
    migrate_in_turn,
    migrate_scratch,
    missing_revisions,
    scratch_database,
    upgrade_to_heads,
)
from kit.process import JsonFormatter, start_local_services
from kit.settings import BASE_DIR, StartupError, settings


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
            except NoReferencedTableError as error:
                raise CommandError(
                    f"{error}. Switch the extension on whose table it is. Supabase's tables are on "
                    "its servers alone: leave the foreign key out of the model, and add it in a "
                    "revision where its table exists (docs: Database, Supabase's users)."
                ) from None

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
        leaves_ahead = self.command is command.upgrade and "leave-ahead" in self.x_arguments
        if leaves_ahead and state.is_ahead and not state.missing:
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


def confirm_downgrade(
    script: ScriptDirectory, rows: Collection[str], target: str, *, is_confirmed: bool
) -> None:
    """Ask before a downgrade that reverts more than the branch it names.

    Args:
        script: the revisions.
        rows: of `alembic_version`.
        target: the downgrade's target, as `-1`, `hotel@base` or a revision id.
        is_confirmed: whether it was confirmed beforehand, with `-x yes`.

    Raises:
        StartupError: when the target names no branch where several are applied, when the branch
            has no revision or no single one to step back over, or when the answer is not yes.
    """
    if target.startswith("-") and len(rows) > 1:
        raise StartupError(_explain_ambiguity(script, rows))
    branch, _, step = target.rpartition("@")
    if re.fullmatch(r"-\d+", step):
        _refuse_impossible_step(script, rows, branch, -int(step))
    if not (revisions := _revisions_to_go(script, rows, target)):
        return
    named = _named_branches(script, target)
    more = [revision for revision in revisions if not named & revision.branch_labels]
    if not more or is_confirmed:
        return
    losses = [f"  {revision.revision}: {revision.doc}" for revision in revisions]
    summary = "\n".join(["the downgrade reverts, with the data in their tables:", *losses])
    if not sys.stdin.isatty():
        raise StartupError(
            f"nothing was changed, since this needs a confirmation: {summary}\n"
            f"Run it in a terminal, or as `make db-downgrade to={target} yes=1`."
        )
    if not _agrees(f"Warning: {summary}\nContinue? [y/N] "):
        raise StartupError("nothing was changed.")


def _agrees(question: str) -> bool:
    # The event loop, which this is asked in, would keep Ctrl-C until the answer.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(question).strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _refuse_impossible_step(
    script: ScriptDirectory, rows: Collection[str], branch: str, steps: int
) -> None:
    """Refuse what Alembic would call an ambiguous walk, or an unknown branch."""
    known = {revision.revision for revision in script.walk_revisions()}
    current = script.get_all_current(tuple(known.intersection(rows)))
    joined = {
        tip.revision
        for tip in current
        if branch in tip.branch_labels or (not branch and tip.revision in rows)
    }
    if branch and not joined:
        raise StartupError(f"no revision of the branch {branch} is applied: nothing to revert.")
    for _ in range(steps):
        if len(joined) == 1:
            tip = script.get_revision(joined.pop())
            joined = set(tip._versioned_down_revisions)  # noqa: SLF001 (down_revision as a tuple)
    if len(joined) > 1:
        lines = [list(script.iterate_revisions(revision, "base")) for revision in joined]
        labels = lines[0][0].branch_labels
        shared = set(lines[0]).intersection(*lines[1:])
        of_branch = (
            each.revision for each in lines[0] if each in shared and labels & each.branch_labels
        )
        before = next(of_branch, f"{min(labels)}@base")
        raise StartupError(
            f"there is no single revision to go back to: {' and '.join(sorted(joined))} stand "
            f"beside each other. To revert both, run `make db-downgrade to={before}`."
        )


def _revisions_to_go(script: ScriptDirectory, rows: Collection[str], target: str) -> list[Script]:
    try:
        return list(script.iterate_revisions(tuple(rows), target, select_for_downgrade=True))
    except RevisionError:
        # Alembic has a message for an impossible target.
        return []


def _named_branches(script: ScriptDirectory, target: str) -> set[str]:
    branch, separator, _ = target.partition("@")
    if separator:
        return {branch}
    if target == "base" or target.startswith("-"):
        return {SERVICE}
    return set(script.get_revision(target).branch_labels)


def _explain_ambiguity(script: ScriptDirectory, rows: Collection[str]) -> str:
    branches = sorted({label for row in rows for label in script.get_revision(row).branch_labels})
    commands = [
        "`make db-downgrade`" if branch == SERVICE else f"`make db-downgrade extension={branch}`"
        for branch in branches
    ]
    return (
        f"several branches are applied: {', '.join(branches)}. Name the one to revert: "
        f"{' or '.join(commands)}."
    )


# Not the schema itself: on Supabase that would remove its grants, which nothing would restore. A
# PostgreSQL extension stays with all that belongs to it, and what belongs to a table goes with it.
DROP_STATEMENTS = """
    SELECT format('DROP %s IF EXISTS %s CASCADE', it.type, it.identity)
    FROM pg_depend CROSS JOIN pg_identify_object(classid, objid, 0) AS it
    WHERE refclassid = 'pg_namespace'::regclass AND deptype = 'n' AND refobjid IN (
        SELECT oid FROM pg_namespace WHERE nspname = ANY(CAST(:schemas AS text[]))
    ) AND classid <> 'pg_extension'::regclass AND (classid, objid) NOT IN (
        SELECT classid, objid FROM pg_depend WHERE objsubid = 0 AND deptype IN ('a', 'e', 'i')
    )
"""


CREATED_TABLE = re.compile(r"""create_table\(\s*["'](\w+)""")


def refuse_production(connection: Connection, deed: str = "reset") -> None:
    """Guard commands that would destroy data, or mix it with made-up rows.

    Raises:
        StartupError: when this is production, or the database has ever been migrated by it, even
            if the settings here name another environment.
    """
    if settings.ENVIRONMENT == "production":
        raise StartupError(f"ENVIRONMENT is production, where a database is never {deed}.")
    if read_note(connection).get("environment") == "production":
        raise StartupError(
            f"the database {settings.POSTGRES_DB!r} is never {deed}: it was migrated with "
            f"ENVIRONMENT=production, although ENVIRONMENT is {settings.ENVIRONMENT} here. If it "
            "is a copy, run `COMMENT ON TABLE alembic_version IS NULL` in it first."
        )


def is_of_unknown_origin(connection: Connection) -> bool:
    """Whether a migrated database has no note of whose it is: migrated by SQL, or from a dump."""
    return bool(read_rows(connection)) and "environment" not in read_note(connection)


def reset_database(connection: Connection, script: ScriptDirectory) -> None:
    """Drop all objects of `public` and the models' other schemas, and run all migrations.

    In one transaction, unless a revision leaves it: then a failure may leave the database empty.

    Raises:
        StartupError: when it is a production database.
    """
    upgrade_to_heads(connection, script, begin=_drop_everything)


def _drop_everything(connection: Connection) -> None:
    refuse_production(connection)
    schemas = {table.schema or "public" for table in load_metadata().tables.values()}
    statements = connection.scalars(text(DROP_STATEMENTS), {"schemas": ["public", *schemas]})
    for statement in statements.all():
        connection.exec_driver_sql(statement)


def forget_extension(
    connection: Connection, script: ScriptDirectory, metadata: MetaData, extension: str
) -> None:
    """Remove an extension's revisions from `alembic_version`, in the caller's transaction.

    Raises:
        StartupError: when the extension is enabled, when the database does not know it, or when it
            is unknown which other revisions its row implied.
    """
    if extension in enabled_extensions():
        raise StartupError(
            f"the extension {extension} is enabled. Remove it from ENABLED_EXTENSIONS first; to "
            f"drop its tables, run `make db-downgrade extension={extension}` before that."
        )
    lock_migrations(connection)
    note = read_note(connection)
    tips = {*read_rows(connection), *note.get("applied", [])}
    forgotten = sorted(tip for tip in tips if extension_of(tip) == extension)
    if not forgotten:
        raise StartupError(f"the database has no revision of an extension {extension!r}.")
    if "applied" not in note:
        tips |= _heads_implied_by(connection, script, metadata, extension)
    note["forgotten"] = note.get("forgotten", {}) | {extension: forgotten}
    _write_tips(connection, script, note, tips.difference(forgotten))


def adopt_forgotten(connection: Connection, script: ScriptDirectory, metadata: MetaData) -> None:
    """Record as applied what a forgotten extension had when it left, if its tables are still there.

    Raises:
        StartupError: when it has tables, but it is unknown which of its revisions made them.
    """
    note, rows = read_note(connection), read_rows(connection)
    tips = set(applied_tips(script, rows))
    existing = set(inspect(connection).get_table_names()) if rows else set()
    for extension in sorted({*enabled_extensions()} - _branches_of(script, tips)):
        texts = (path.read_text("utf-8") for path in version_location(extension).glob("*.py"))
        created = {name for each in texts for name in CREATED_TABLE.findall(each)}
        heads = {head.revision for head in heads_of(script, extension)}
        if not (found := created & existing):
            continue
        back = note.get("forgotten", {}).get(extension)
        if not back and _differ(connection, metadata, created):
            raise StartupError(
                f"the database has {', '.join(sorted(found))}, but no record of the migrations of "
                f"{extension}. Run `make db-stamp to={min(heads)}`, or the revision of {extension} "
                "that they are of, if an older one; or drop them."
            )
        tips |= set(back or heads)
        _write_tips(connection, script, note, tips)


def _heads_implied_by(
    connection: Connection, script: ScriptDirectory, metadata: MetaData, extension: str
) -> set[str]:
    """The heads that only an extension's row can have stood for, if the tables are theirs."""
    known = {revision.revision for revision in script.walk_revisions()}
    tips = applied_tips(script, known.intersection(read_rows(connection)))
    lacking = set(script.get_heads()).difference(tips)
    is_behind = _branches_of(script, lacking) & _branches_of(script, tips)
    if is_behind or _differ(connection, metadata, set(metadata.tables)):
        raise StartupError(
            "alembic_version has lost its comment, which lists the other applied revisions, and "
            "not all of this code's are applied. Name those that are yourself, of each branch but "
            f'{extension}: `make db-stamp to="core_0001 …" purge=1`.'
        )
    return lacking


def _branches_of(script: ScriptDirectory, revisions: Collection[str]) -> set[str]:
    return {label for each in revisions for label in script.get_revision(each).branch_labels}


def _differ(connection: Connection, metadata: MetaData, tables: Collection[str]) -> bool:
    """Whether these tables are not in the database as the models have them."""

    def is_of_these(item: Any, _name: object, kind: str, *_rest: object) -> bool:
        return kind != "table" or item.key in tables

    options = {"compare_server_default": True, "include_object": is_of_these}
    context = MigrationContext.configure(connection, opts=options)
    with kept_defaults(connection, metadata):
        return bool(compare_metadata(context, metadata))


def _write_tips(
    connection: Connection, script: ScriptDirectory, note: dict[str, Any], tips: Collection[str]
) -> None:
    connection.execute(text("DELETE FROM alembic_version"))
    for row in _without_implied(script, tips):
        connection.execute(
            text("INSERT INTO alembic_version (version_num) VALUES (:row)"), {"row": row}
        )
    note["applied"] = sorted(tips)
    write_note(connection, note)


def _without_implied(script: ScriptDirectory, tips: Collection[str]) -> set[str]:
    """The revisions that no other of them depends on: Alembic's table holds only these."""
    known = {revision.revision for revision in script.walk_revisions()}
    implied = {
        ancestor.revision
        for tip in known.intersection(tips)
        for ancestor in script.iterate_revisions(tip, "base")
        if ancestor.revision != tip
    }
    return set(tips) - implied

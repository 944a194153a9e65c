"""What a database says about its migrations, and the note that it keeps about them.

Alembic stores only the revisions that no other applied revision depends on. Once an extension's
files are gone, nobody can tell any more which of core's revisions its row stood for. So the newest
applied revision of every branch is also noted in the comment of the table `alembic_version`.
"""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text

from kit.extensions import present_extensions
from kit.migrations._branches import extension_of
from kit.settings import StartupError, settings

VERSION_TABLE = "alembic_version"


class MigrationState(NamedTuple):
    """How a database stands to the revisions of the code."""

    applied: frozenset[str]
    """Newest applied revision of each branch, as far as the code knows them."""
    missing: list[str]
    """Heads of the code that the database does not have: it is behind."""
    unknown: list[str]
    """Applied revisions that the code does not have: it is ahead, or an extension left."""
    has_tables: bool
    """Whether any table of the models is there."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of this service has ever been in the database."""
        return not (self.applied or self.unknown or self.has_tables)

    @property
    def orphans(self) -> list[str]:
        """Extensions whose tables are there but whose revisions are not."""
        return sorted({name for name in map(extension_of, self.unknown) if name})

    @property
    def is_ahead(self) -> bool:
        """Whether the database has revisions of newer code, be it core's or the service's own."""
        return any(extension_of(revision) is None for revision in self.unknown)


def read_state(
    connection: Connection, script: ScriptDirectory, metadata: MetaData
) -> MigrationState:
    """How the database stands to the revisions of the code."""
    rows = read_rows(connection)
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(rows) - known)
    noted = read_note(connection).get("applied", []) if unknown else []
    applied = applied_tips(script, [row for row in (*rows, *noted) if row in known])
    return MigrationState(
        applied=frozenset(applied),
        missing=sorted(set(script.get_heads()) - set(applied)),
        unknown=unknown,
        has_tables=bool(set(inspect(connection).get_table_names()) & set(metadata.tables)),
    )


def read_rows(connection: Connection) -> list[str]:
    """What `alembic_version` holds; nothing when it is not there."""
    if connection.scalar(text("SELECT to_regclass(:table)"), {"table": VERSION_TABLE}) is None:
        return []
    return list(connection.scalars(text("SELECT version_num FROM alembic_version ORDER BY 1")))


def applied_tips(script: ScriptDirectory, rows: Collection[str]) -> list[str]:
    """Newest applied revision of each branch, given what `alembic_version` holds."""
    current = script.get_all_current(tuple(rows))
    return sorted(revision.revision for revision in current)


def note_applied(
    *, ctx: MigrationContext, heads: Collection[str], **_callback_arguments: object
) -> None:
    """Alembic's `on_version_apply` callback: note what is applied now, and where."""
    if ctx.as_sql or ctx.script is None or ctx.connection is None:
        return
    was_production = read_note(ctx.connection).get("environment") == "production"
    note = {
        "applied": applied_tips(ctx.script, heads),
        "environment": "production" if was_production else settings.ENVIRONMENT,
    }
    write_note(ctx.connection, note)


def read_note(connection: Connection) -> dict[str, Any]:
    """The note kept with `alembic_version`; empty when there is none."""
    comment = connection.scalar(
        text("SELECT obj_description(to_regclass(:table), 'pg_class')"), {"table": VERSION_TABLE}
    )
    try:
        note = json.loads(comment or "{}")
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def write_note(connection: Connection, note: dict[str, Any]) -> None:
    """Keep a note with `alembic_version`, in the caller's transaction."""
    # COMMENT takes no parameters.
    literal = json.dumps(note, sort_keys=True).replace("'", "''")
    connection.exec_driver_sql(f"COMMENT ON TABLE {VERSION_TABLE} IS '{literal}'")


def refuse_unknown_revisions(state: MigrationState) -> None:
    """Stop a database command that Alembic could not carry out.

    Raises:
        StartupError: when the database has revisions that the code does not have.
    """
    if state.orphans:
        raise StartupError(" ".join(map(explain_orphan, state.orphans)))
    if state.unknown:
        raise StartupError(explain_ahead(state))


def explain_orphan(extension: str) -> str:
    """What to do about an extension that left its tables behind."""
    if extension in present_extensions():
        cause = f"the extension {extension} is not enabled, but the database has its tables"
        back = f"add {extension} to ENABLED_EXTENSIONS"
    else:
        cause = f"the extension {extension} is gone, but the database has its tables"
        back = f"put app/extensions/{extension} back and enable it"
    return (
        f"{cause}. To keep it, {back}; to drop its tables, do that and run "
        f"`make db-downgrade extension={extension}`; to keep the tables without it, run "
        f"`make db-forget extension={extension}`."
    )


def explain_ahead(state: MigrationState) -> str:
    """What it means that the database has revisions that the code does not have."""
    return (
        f"the database is ahead of this code: it has {', '.join(state.unknown)}, which no file "
        "here defines. Deploy the code that has it, or go back in the database with that code."
    )

"""The migrations that a database has, and the note about them that is stored in it.

Alembic stores only the revisions that no other applied revision depends on. Once an extension's
files are removed, it is unknown which of core's revisions its row implied. So the newest applied
revision of every branch is also noted in the comment of the table `alembic_version`.
"""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text

from kit.extensions import present_extensions
from kit.migrations._branches import extension_of
from kit.settings import StartupError, settings

VERSION_TABLE = "alembic_version"


class MigrationState(NamedTuple):
    """The migrations of a database, compared with the revisions of the code."""

    applied: frozenset[str]
    """Newest applied revision of each branch that the code knows."""
    missing: list[str]
    """Heads of the code that the database lacks: it is behind."""
    unknown: list[str]
    """Applied revisions that the code lacks: the database is ahead, or an extension was removed."""
    has_tables: bool
    """Whether the database has any table of the models."""

    @property
    def is_empty(self) -> bool:
        """Whether the database has never had anything of this service."""
        return not (self.applied or self.unknown or self.has_tables)

    @property
    def orphans(self) -> list[str]:
        """Extensions whose revisions are applied but not in the code."""
        return sorted({name for name in map(extension_of, self.unknown) if name})

    @property
    def is_ahead(self) -> bool:
        """Whether the database has revisions of newer code, be it core's or the service's own."""
        return any(extension_of(revision) is None for revision in self.unknown)


def read_state(
    connection: Connection, script: ScriptDirectory, metadata: MetaData
) -> MigrationState:
    """Compare the migrations of the database with the revisions of the code."""
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
    """Read the rows of `alembic_version`; none when there is no such table."""
    if connection.scalar(text("SELECT to_regclass(:table)"), {"table": VERSION_TABLE}) is None:
        return []
    return list(connection.scalars(text("SELECT version_num FROM alembic_version ORDER BY 1")))


def applied_tips(script: ScriptDirectory, rows: Collection[str]) -> list[str]:
    """Newest applied revision of each branch, computed from the rows of `alembic_version`."""
    current = script.get_all_current(tuple(rows))
    return sorted(revision.revision for revision in current)


def note_applied(
    *, ctx: MigrationContext, step: MigrationInfo, heads: Collection[str], **_others: object
) -> None:
    """Alembic's `on_version_apply` callback: note the applied revisions and the environment.

    Whose database it is, only the first revision can say: later, a developer's settings may name
    production's, as for a correction after a dump without comments was restored.
    """
    if ctx.as_sql or ctx.script is None or ctx.connection is None:
        return
    note = _with_applied(read_note(ctx.connection), ctx.script, heads)
    is_first = step.is_upgrade and not step.is_stamp and not step.source_revision_ids
    if is_first or settings.ENVIRONMENT == "production":
        was_production = note.get("environment") == "production"
        note["environment"] = "production" if was_production else settings.ENVIRONMENT
    write_note(ctx.connection, note)


def complete_note(connection: Connection, script: ScriptDirectory) -> None:
    """Note what is applied, and that production uses the database, if there was nothing to do."""
    note, rows = read_note(connection), read_rows(connection)
    is_known = not set(rows) - {revision.revision for revision in script.walk_revisions()}
    complete = _with_applied(note, script, rows) if is_known else dict(note)
    if settings.ENVIRONMENT == "production":
        complete["environment"] = "production"
    if rows and complete != note:
        write_note(connection, complete)


def _with_applied(
    note: dict[str, Any], script: ScriptDirectory, rows: Collection[str]
) -> dict[str, Any]:
    """Note what these rows imply; an extension that none implies, after an edit, is forgotten."""
    known = {revision.revision for revision in script.walk_revisions()}
    forgotten = dict(note.get("forgotten", {}))
    for tip in set(note.get("applied", [])) - known:
        if extension := extension_of(tip):
            forgotten[extension] = [tip]
    complete = note | {"applied": applied_tips(script, rows)}
    return complete | {"forgotten": forgotten} if forgotten else complete


def read_note(connection: Connection) -> dict[str, Any]:
    """Read the note stored with `alembic_version`; empty when there is none."""
    comment = connection.scalar(
        text("SELECT obj_description(to_regclass(:table), 'pg_class')"), {"table": VERSION_TABLE}
    )
    try:
        note = json.loads(comment or "{}")
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def write_note(connection: Connection, note: dict[str, Any]) -> None:
    """Store a note with `alembic_version`, in the caller's transaction."""
    # COMMENT takes no parameters.
    literal = json.dumps(note, sort_keys=True).replace("'", "''")
    connection.exec_driver_sql(f"COMMENT ON TABLE {VERSION_TABLE} IS '{literal}'")


def refuse_unknown_revisions(state: MigrationState) -> None:
    """Refuse a database command that Alembic could not run.

    Raises:
        StartupError: when the database has revisions that the code does not have.
    """
    if state.orphans:
        raise StartupError(" ".join(map(explain_orphan, state.orphans)))
    if state.unknown:
        raise StartupError(explain_ahead(state))


def explain_orphan(extension: str) -> str:
    """Explain an extension whose tables are left in the database, with the remedies."""
    if extension in present_extensions():
        cause = f"the extension {extension} is not enabled, but the database has its tables"
        back = f"add {extension} to ENABLED_EXTENSIONS"
    else:
        cause = f"the extension {extension} was removed, but the database has its tables"
        back = f"restore app/extensions/{extension} and enable it"
    return (
        f"{cause}. To keep it, {back}; to drop its tables, do that and run "
        f"`make db-downgrade extension={extension}`; to keep the tables without it, run "
        f"`make db-forget extension={extension}`."
    )


def explain_ahead(state: MigrationState) -> str:
    """Explain a database that has revisions unknown to the code, with the remedies."""
    return (
        f"the database is ahead of this code: it has {', '.join(state.unknown)}, which no file "
        "here defines. Deploy the code that has it, or downgrade the database with that code."
    )

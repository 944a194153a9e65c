"""Empty a database, forget an extension that left it, or adopt one that is back."""

import re
from collections.abc import Collection
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text

from kit.extensions import enabled_extensions
from kit.migrations._branches import extension_of, heads_of, load_metadata, version_location
from kit.migrations._scratch_database import kept_defaults
from kit.migrations._state import applied_tips, read_note, read_rows, write_note
from kit.migrations._upgrade import lock_migrations, upgrade_to_heads
from kit.settings import StartupError, settings

# Not the schema itself: on Supabase that would remove its grants, which nothing would restore. The
# objects of a PostgreSQL extension belong to that extension, the sequence of an identity column to
# its table.
DROP_STATEMENTS = """
    WITH of_others AS (
        SELECT classid, objid FROM pg_depend WHERE deptype IN ('e', 'i')
    ), objects AS (
        SELECT 'pg_class'::regclass AS classid, oid, relnamespace AS namespace,
            CASE relkind
                WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE'
            END AS kind, oid::regclass::text AS name
        FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
        UNION ALL
        SELECT 'pg_type'::regclass, oid, typnamespace,
            CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, oid::regtype::text
        FROM pg_type WHERE typtype IN ('d', 'e')
        UNION ALL
        SELECT 'pg_proc'::regclass, oid, pronamespace, 'ROUTINE', oid::regprocedure::text
        FROM pg_proc
    )
    SELECT format('DROP %s IF EXISTS %s CASCADE', kind, name)
    FROM objects
    WHERE namespace IN (
        SELECT oid FROM pg_namespace WHERE nspname = ANY(CAST(:schemas AS text[]))
      )
      AND (classid, oid) NOT IN (SELECT classid, objid FROM of_others)
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

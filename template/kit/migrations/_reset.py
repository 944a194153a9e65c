"""Empty a database, or forget an extension that left it."""

from collections.abc import Collection

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from kit.extensions import enabled_extensions
from kit.migrations._branches import extension_of, load_metadata
from kit.migrations._state import read_note, read_rows, write_note
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


def refuse_production(connection: Connection) -> None:
    """Guard commands that would destroy data.

    Raises:
        StartupError: when this is production, or the database has ever been migrated by it, even
            if the settings here name another environment.
    """
    if settings.ENVIRONMENT == "production":
        raise StartupError("ENVIRONMENT is production, where a database is never reset.")
    if read_note(connection).get("environment") == "production":
        raise StartupError(
            f"the database {settings.POSTGRES_DB!r} is never reset: it was migrated with "
            f"ENVIRONMENT=production, although ENVIRONMENT is {settings.ENVIRONMENT} here."
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


def forget_extension(connection: Connection, script: ScriptDirectory, extension: str) -> None:
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
    rows = read_rows(connection)
    if not any(extension_of(row) == extension for row in rows):
        raise StartupError(f"the database has no revision of an extension {extension!r}.")
    note = read_note(connection)
    if "applied" not in note:
        raise StartupError(
            "alembic_version has lost its comment, which lists the other applied revisions. Enable "
            "the extension again, run `uv run alembic upgrade heads`, then forget it."
        )
    tips = [tip for tip in {*rows, *note["applied"]} if extension_of(tip) != extension]
    connection.execute(text("DELETE FROM alembic_version"))
    for row in _without_implied(script, tips):
        connection.execute(
            text("INSERT INTO alembic_version (version_num) VALUES (:row)"), {"row": row}
        )
    write_note(connection, note | {"applied": sorted(tips)})


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

"""Reset a database: drop all tables and run all migrations."""

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from kit.migrations._state import read_note
from kit.migrations._upgrade import lock_migrations, upgrade_to_heads
from kit.settings import StartupError, settings

# Not the schema itself: on Supabase that would remove its grants, which nothing would restore. The
# objects of a PostgreSQL extension belong to that extension.
DROP_STATEMENTS = """
    WITH of_postgresql_extensions AS (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
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
    WHERE namespace = 'public'::regnamespace
      AND (classid, oid) NOT IN (SELECT classid, objid FROM of_postgresql_extensions)
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


def reset_database(connection: Connection, script: ScriptDirectory) -> None:
    """Drop all objects of the schema `public` and run all migrations, in the caller's transaction.

    Raises:
        StartupError: when it is a production database.
    """
    refuse_production(connection)
    lock_migrations(connection)
    for statement in connection.scalars(text(DROP_STATEMENTS)).all():
        connection.exec_driver_sql(statement)
    upgrade_to_heads(connection, script)

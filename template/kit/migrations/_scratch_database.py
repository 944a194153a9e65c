"""A scratch database to compare the models with: never the developer's own.

Tables that a developer's database happens to have, made by hand or by another branch of the code,
would otherwise end up in a migration.
"""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from alembic.ddl import postgresql
from alembic.runtime.migration import MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, TextClause, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.exc import CompileError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from kit.database import connect
from kit.migrations._branches import DIALECT, History, enumerations, undecorated
from kit.migrations._upgrade import upgrade_to_heads
from kit.process import temporary_postgres
from kit.settings import is_remote, settings

OURS = """
    WITH schemas AS (
        SELECT oid, nspname FROM pg_namespace
        WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
    ), members AS (
        SELECT objid FROM pg_depend WHERE deptype = 'e'
        UNION ALL SELECT oid FROM pg_class WHERE relispartition
    ), tables AS (
        SELECT pg_class.*, concat(nullif(nspname || '.', 'public.'), relname) AS key
        FROM pg_class JOIN schemas ON schemas.oid = relnamespace
        WHERE relkind IN ('r', 'p') AND relname <> 'alembic_version'
          AND pg_class.oid NOT IN (TABLE members)
    )
"""
"""Without what belongs to PostgreSQL extensions, and without partitions, which no model has."""

REFERENCES = """
    SELECT tables.key, array_agg(other.key) FROM tables
    LEFT JOIN pg_constraint ON conrelid = tables.oid AND contype = 'f'
    LEFT JOIN tables AS other ON other.oid = confrelid GROUP BY tables.key
"""
"""Each table, and those that it refers to."""

OBJECTS = {
    "schemas": "SELECT nspname FROM schemas",
    # Without a column's position: a table made by several migrations may have another order. A
    # serial column's sequence keeps its name when the table is renamed.
    "columns": """
        SELECT format('%s.%s %s%s default %s identity %s generated %s collation %s%s',
            tables.oid::regclass, attname, format_type(atttypid, atttypmod),
            CASE WHEN attnotnull THEN ' not null' ELSE '' END,
            CASE WHEN pg_get_serial_sequence(tables.oid::regclass::text, attname) IS NULL
                THEN coalesce(pg_get_expr(adbin, adrelid), 'none') ELSE 'serial' END,
            attidentity, attgenerated, attcollation::regcollation,
            ' -- ' || col_description(attrelid, attnum))
        FROM pg_attribute JOIN tables ON tables.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped
    """,
    "comments": """
        SELECT format('%s -- %s', oid::regclass, obj_description(oid, 'pg_class'))
        FROM tables WHERE obj_description(oid, 'pg_class') IS NOT NULL
    """,
    # Not those of NOT NULL, which are among the columns and keep their names there, too.
    "constraints": """
        SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
            pg_get_constraintdef(pg_constraint.oid))
        FROM pg_constraint JOIN tables ON tables.oid = conrelid WHERE contype <> 'n'
    """,
    "indexes": """
        SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN tables ON tables.oid = indrelid
        WHERE indexrelid NOT IN (SELECT conindid FROM pg_constraint)
    """,
    "row security": """
        SELECT format('%s %s %s', oid::regclass, relrowsecurity, relforcerowsecurity)
        FROM tables
    """,
    "sequences": """
        SELECT format('%s %s %s', seqrelid::regclass, seqtypid::regtype, seqincrement)
        FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
        JOIN schemas ON schemas.oid = relnamespace
        WHERE seqrelid NOT IN (SELECT objid FROM pg_depend WHERE refobjsubid > 0)
          AND seqrelid NOT IN (TABLE members)
    """,
    "enumerations": """
        SELECT enumtypid::regtype || ': ' || string_agg(enumlabel, ' ' ORDER BY enumsortorder)
        FROM pg_enum WHERE enumtypid NOT IN (TABLE members) GROUP BY enumtypid
    """,
    "policies": "SELECT pg_policies::text FROM pg_policies",
    "triggers": """
        SELECT pg_get_triggerdef(pg_trigger.oid)
        FROM pg_trigger JOIN tables ON tables.oid = tgrelid WHERE NOT tgisinternal
    """,
    "views": """
        SELECT format('%s %s', pg_class.oid::regclass, pg_get_viewdef(pg_class.oid))
        FROM pg_class JOIN schemas ON schemas.oid = relnamespace
        WHERE relkind IN ('v', 'm') AND pg_class.oid NOT IN (TABLE members)
    """,
    "routines": """
        SELECT pg_get_functiondef(pg_proc.oid)
        FROM pg_proc JOIN schemas ON schemas.oid = pronamespace
        WHERE prokind IN ('f', 'p') AND pg_proc.oid NOT IN (TABLE members)
    """,
    "extensions": """
        SELECT extname || ' ' || extversion FROM pg_extension WHERE extname <> 'plpgsql'
    """,
}
"""For each kind of object, the query that describes them."""

NOT_OF_MODELS = ("policies", "triggers", "views", "routines", "extensions")
"""Kinds that a revision may add though no model has them."""


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
    host = settings.POSTGRES_HOST
    return settings.pooler_mode == "none" and bool(host) and not is_remote(host)


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


def migrate_scratch(connection: Connection, script: ScriptDirectory) -> History:
    """Bring an empty database to the heads."""
    history = History({}, set(), set())

    def note_tables(*, step: MigrationInfo, **_rest: object) -> None:
        revision = script.get_revision(str(step.up_revision_id))
        tables = connection.execute(text(OURS + REFERENCES)).all()
        history.tables.clear()
        for table, others in tables:
            history.tables.add(table)
            history.creators.setdefault(table, min(revision.branch_labels, default=""))
            history.references.update((table, other) for other in others if other)

    upgrade_to_heads(connection, script, on_version_apply=note_tables)
    return history


def read_objects(connection: Connection) -> set[str]:
    """Describe every object of the service, a line each, without Alembic's own table."""
    return {
        f"{kind}: {description}"
        for kind, query in OBJECTS.items()
        for description in connection.scalars(text(OURS + query))
    }


def constant_default(column: Column[Any]) -> TextClause | None:
    """The default that a model gives a column, in SQL, if it is a constant."""
    if not isinstance(column.default, ScalarElementColumnDefault):
        return None
    value = sa.literal(column.default.arg, column.type)
    try:
        default = value.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
    except CompileError:
        return None
    return text(str(default).replace(":", r"\:"))


class PostgresqlImpl(postgresql.PostgresqlImpl):
    """Compares defaults of JSON, which has no `=`, and of enumerations, whose member may be new."""

    __dialect__ = "postgresql"  # Alembic uses the last class that says so, and logs its name

    def compare_server_default(
        self, inspector_column: Any, metadata_column: Any, declared: Any, stored: Any
    ) -> bool:
        type_ = undecorated(metadata_column.type)
        compared = JSONB if isinstance(type_, sa.JSON) else sa.Text
        if None in (declared, stored) or not isinstance(type_, sa.JSON | sa.Enum):
            compare: Any = super().compare_server_default
            return bool(compare(inspector_column, metadata_column, declared, stored))
        default = metadata_column.server_default.arg
        value = sa.literal(default, sa.Text) if isinstance(default, str) else default
        equal = sa.cast(sa.literal_column(stored), compared) == sa.cast(value, compared)
        return not self.connection.scalar(sa.select(equal))  # type: ignore[union-attr]


@contextmanager
def kept_defaults(connection: Connection, metadata: MetaData) -> Iterator[None]:
    """Let models have their constant defaults in the database too, where a column has one there.

    A column that is added to rows keeps its default there, for code that does not know it.
    """
    query = "SELECT key, attname FROM tables, pg_attribute WHERE attrelid = oid AND atthasdef"
    stored = {*map(tuple, connection.execute(text(OURS + query)))}
    columns = [each for table in metadata.tables.values() for each in table.columns]
    kept = [each for each in columns if (each.table.key, each.name) in stored]
    kept = [each for each in kept if each.server_default is None]
    for column in kept:
        if (default := constant_default(column)) is not None:
            column.server_default = sa.DefaultClause(default)
    try:
        yield
    finally:
        for column in kept:
            column.server_default = None


def compare_with_models(connection: Connection, metadata: MetaData) -> list[str]:
    """Compare the objects of a migrated database with those that the models make in it.

    The models' tables are made anew beside all else that the revisions made, such as a function
    that a column's default calls; then that is rolled back.

    Returns:
        What differs, with the side that lacks it. A revision may add what no model describes.
    """
    migrated = read_objects(connection)
    quote = connection.dialect.identifier_preparer
    with kept_defaults(connection, metadata), connection.begin_nested() as transaction:
        for table in metadata.tables.values():
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote.format_table(table)} CASCADE")
        for name in enumerations(metadata):
            connection.exec_driver_sql(f"DROP TYPE IF EXISTS {name} CASCADE")
        metadata.create_all(connection)
        made = read_objects(connection)
        transaction.rollback()
    surplus = {each for each in migrated - made if not each.startswith(NOT_OF_MODELS)}
    return sorted(
        [f"the migrations lack {each}" for each in made - migrated]
        + [f"the models lack {each}" for each in surplus]
    )

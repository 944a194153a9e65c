"""Upgrade a database to the heads, one process at a time; and check it when the service starts.

Also a scratch database to compare the models with, never the developer's own: tables that it
happens to have, made by hand or by another branch of the code, would end up in a migration.
"""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.ddl import postgresql
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationInfo, MigrationStep, RevisionStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, TextClause, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.exc import CompileError, DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.schema import ScalarElementColumnDefault

import kit.conventions  # noqa: F401 (protects `alembic_version` too)
from kit.database import connect
from kit.migrations._branches import (
    DIALECT,
    History,
    MigrationState,
    domains,
    enumerations,
    explain_ahead,
    explain_orphan,
    load_metadata,
    note_applied,
    read_rows,
    read_state,
    script_directory,
    undecorated,
)
from kit.process import temporary_postgres
from kit.settings import StartupError, settings

logger = logging.getLogger(__name__)


UPGRADE_LOCK = 4_702_111_234_234_838_632
"""Key of the advisory lock: any constant, as long as nothing else in the database takes it."""

LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE code: https://www.postgresql.org/docs/current/errcodes-appendix.html"""

LONGEST_RETRYING = 120
"""Seconds after which a migration gives up on a table in use."""


def migrate_in_turn(
    connection: Connection,
    revisions: Iterable[Script],
    configure: Callable[[bool], MigrationContext],
    run: Callable[[MigrationContext], None],
) -> None:
    """Run migrations while no other process does, and again while a table is in use.

    All are one transaction. If a revision leaves that, with `op.get_context().autocommit_block()`,
    each has its own, so that none is repeated that was committed.

    Args:
        connection: to the database. Where it is in a transaction, that is the caller's to end.
        revisions: those that may run.
        configure: makes Alembic's context; is told whether each revision has a transaction.
        run: runs the migrations.

    Raises:
        StartupError: when a table was in use for too long.
    """
    leaves = any(map(leaves_transaction, revisions))

    def migrate() -> None:
        context = configure(leaves)
        with context.begin_transaction(), _locked(connection, by_another=leaves):
            run(context)
            if leaves:
                connection.commit()  # what came after the last revision

    if connection.in_transaction():
        migrate()
    else:
        _retry_while_locked(connection, migrate)


def leaves_transaction(revision: Script) -> bool:
    """Whether a revision names Alembic's `autocommit_block`, which commits and runs outside.

    Or adds a member to an enumeration, which only later transactions can use.
    """
    code = Path(revision.path).read_text(encoding="utf-8")
    return "autocommit_block" in code or "ADD VALUE" in code.upper()


def lock_migrations(connection: Connection) -> None:
    """Wait for the lock on migrations of this database; released when the transaction ends.

    It belongs to the transaction rather than the session because a pooler in transaction mode
    sends the session's next statement to another server connection.
    """
    connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
    # asyncpg keeps a query's portal, and its snapshot, until the next statement; an index that is
    # built concurrently waits for older snapshots, so for this one to the end of time.
    connection.execute(text("SET LOCAL lock_timeout = 0"))


@contextmanager
def _locked(connection: Connection, *, by_another: bool) -> Iterator[None]:
    """Hold the lock, by a second connection where the first does not stay in its transaction."""
    with ExitStack() as stack:
        lock_migrations(
            stack.enter_context(connection.engine.begin()) if by_another else connection
        )
        stack.enter_context(_short_waits(connection))
        yield


@contextmanager
def _short_waits(connection: Connection) -> Iterator[None]:
    """Limit how long each transaction of a connection waits for a lock, from this one on.

    Whoever waits for a table stops all that come after, readers too. Outside of transactions, as
    when an index is built concurrently, a wait stops nobody, and SET LOCAL has no effect.
    """
    milliseconds = int(settings.POSTGRES_LOCK_TIMEOUT * 1000)

    def limit(begun: Connection) -> None:
        begun.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")

    limit(connection)
    event.listen(connection, "begin", limit)
    try:
        yield
    finally:
        event.remove(connection, "begin", limit)


def _retry_while_locked(connection: Connection, migrate: Callable[[], None]) -> None:
    deadline = time.monotonic() + LONGEST_RETRYING
    while True:
        try:
            return migrate()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() > deadline:
                raise StartupError(
                    f"a table was in use for {LONGEST_RETRYING} s by a transaction that does not "
                    f"end, so this could not run: {error.statement}. What was not committed is as "
                    "before. End that transaction, or try again later."
                ) from None
            logger.warning("a table is in use; others go first, then again: %s", error.statement)
        connection.rollback()
        time.sleep(settings.POSTGRES_LOCK_TIMEOUT)


def missing_revisions(script: ScriptDirectory, applied: Collection[str]) -> list[Script]:
    """The revisions between those of `alembic_version` and the heads, in the order to apply."""
    revisions = script.iterate_revisions("heads", tuple(applied), implicit_base=True)
    return [*revisions][::-1]


def upgrade_to_heads(
    connection: Connection,
    script: ScriptDirectory,
    on_version_apply: Callable[..., None] = note_applied,
    begin: Callable[[Connection], None] | None = None,
) -> None:
    """Apply every missing revision, as `alembic upgrade heads` does.

    For callers that run inside an event loop, where `kit/migrations/_env.py` could not start its
    own. In a transaction of the caller's it leaves the commit to the caller.

    Args:
        connection: to the database.
        script: the revisions.
        on_version_apply: Alembic's callback after each revision.
        begin: what is done first, in the same transaction and under the same lock.

    Raises:
        StartupError: when a revision leaves its transaction, and the transaction is the caller's;
            when a table was in use for too long.
    """

    def missing_steps(applied: Collection[str]) -> list[RevisionStep]:
        return [
            MigrationStep.upgrade_from_script(script.revision_map, revision)
            for revision in missing_revisions(script, applied)
        ]

    is_callers = connection.in_transaction()
    missing = missing_revisions(script, [] if begin else read_rows(connection))
    if not is_callers:
        connection.rollback()  # of the reading
    elif leaving := next(filter(leaves_transaction, missing), None):
        raise StartupError(
            f"the revision {leaving.revision} leaves its transaction with autocommit_block(), but "
            "that is the caller's here. Call it on a connection without a transaction, as "
            "`async with connect() as connection:` gives it, without `connection.begin()`."
        )
    _run_steps(
        connection, script, missing, missing_steps, on_version_apply=on_version_apply, begin=begin
    )


def run_revision(
    connection: Connection, script: ScriptDirectory, revision: Script, *, downgrade: bool = False
) -> None:
    """Apply or revert one revision, whose neighbours are as it needs them."""
    make = MigrationStep.downgrade_from_script if downgrade else MigrationStep.upgrade_from_script
    _run_steps(connection, script, [revision], lambda _: [make(script.revision_map, revision)])


def _run_steps(
    connection: Connection,
    script: ScriptDirectory,
    revisions: Iterable[Script],
    steps: Callable[[Collection[str]], list[RevisionStep]],
    *,
    on_version_apply: Callable[..., None] = note_applied,
    begin: Callable[[Connection], None] | None = None,
) -> None:
    def configure(each_in_its_own: bool) -> MigrationContext:
        return MigrationContext.configure(
            connection,
            opts={
                "script": script,
                "fn": lambda applied, _context: steps(applied),
                "on_version_apply": (on_version_apply,),
                "transaction_per_migration": each_in_its_own,
            },
        )

    def run(context: MigrationContext) -> None:
        if begin:
            begin(connection)
        with Operations.context(context):
            context.run_migrations()

    migrate_in_turn(connection, revisions, configure, run)


async def init_db() -> None:
    """Prepare the database, or refuse to start if its migrations do not match the code.

    On an empty database of a developer it runs all migrations, so that the next `make db-upgrade`
    continues from there; several processes may start at once. Any other database has to have the
    revisions of the code. One that has all of these and more, because the code was rolled back,
    only causes a warning.

    Raises:
        StartupError: when the database cannot be reached, is behind the code, or is empty outside
            local.
    """
    script, metadata = script_directory(), load_metadata()
    async with connect() as connection:
        async with connection.begin():
            state = await connection.run_sync(read_state, script, metadata)
        if state.is_empty and settings.is_local:
            await connection.run_sync(upgrade_to_heads, script)
            return
    _judge(state)


def _judge(state: MigrationState) -> None:
    for extension in state.orphans:
        logger.warning("%s", explain_orphan(extension))
    if state.missing:
        raise StartupError(explain_ahead(state) if state.is_ahead else _explain_behind(state))
    if state.is_ahead:
        logger.warning("%s", explain_ahead(state))


def _explain_behind(state: MigrationState) -> str:
    command = "make db-upgrade" if settings.is_local else "alembic upgrade heads"
    stamp = "make db-stamp to=heads" if settings.is_local else "alembic stamp heads"
    if state.applied:
        return (
            f"the database is behind the code: it lacks {', '.join(state.missing)}. "
            f"Run `{command}` first."
        )
    if state.has_tables:
        return (
            "the database has tables of this service, but no record of its migrations. If they are "
            f"as the migrations make them, run `{stamp}`; else use an empty database."
        )
    return f"the database has no tables yet. Run `{command}` first."


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
    "domains": """
        SELECT format('%s %s%s default %s %s', pg_type.oid::regtype,
            format_type(typbasetype, typtypmod), CASE WHEN typnotnull THEN ' not null' END,
            coalesce(typdefault, 'none'), (
                SELECT string_agg(format('%I %s', conname, pg_get_constraintdef(oid)), ' ')
                FROM pg_constraint WHERE contypid = pg_type.oid AND contype = 'c'))
        FROM pg_type JOIN schemas ON schemas.oid = typnamespace
        WHERE typtype = 'd' AND pg_type.oid NOT IN (TABLE members)
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
    is_near = settings.pooler_mode == "none" and "PostgreSQL" not in settings.remote_servers
    if is_near and await _create_database(name):
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
    return text(escaped(str(default)))


def escaped(sql: str) -> str:
    """SQL for `text()`, which takes a word after a colon for a parameter, unless it has `\\:`."""
    return re.sub(r"(?<![:\\]):(?!:)", r"\\:", sql)


class PostgresqlImpl(postgresql.PostgresqlImpl):
    """Compares defaults of JSON, which has no `=`, and of enumerations, whose member may be new."""

    __dialect__ = "postgresql"  # Alembic uses the last class that says so, and logs its name

    def render_ddl_sql_expr(self, expr: Any, *_: Any, is_index: bool = False, **kw: Any) -> str:
        """SQL as a revision has it, with the colons that Alembic leaves bare."""
        if isinstance(expr, TextClause) and not is_index:
            return escaped(expr.text)
        sql = super().render_ddl_sql_expr(expr, is_index=is_index, **kw)
        return sql if is_index else escaped(sql)  # Alembic writes it as a `literal_column`

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
        for name in (*domains(metadata), *enumerations(metadata)):
            connection.exec_driver_sql(f"DROP TYPE IF EXISTS {name} CASCADE")
        metadata.create_all(connection)
        made = read_objects(connection)
        transaction.rollback()
    surplus = {each for each in migrated - made if not each.startswith(NOT_OF_MODELS)}
    return sorted(
        [f"the migrations lack {each}" for each in made - migrated]
        + [f"the models lack {each}" for each in surplus]
    )

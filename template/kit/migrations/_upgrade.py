"""Upgrade a database to the heads, one process at a time; and check it when the service starts."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError

import kit.conventions  # noqa: F401 (protects `alembic_version` too)
from kit.database import connect
from kit.migrations._branches import load_metadata, script_directory
from kit.migrations._state import (
    MigrationState,
    explain_ahead,
    explain_orphan,
    note_applied,
    read_rows,
    read_state,
)
from kit.settings import StartupError, settings

UPGRADE_LOCK = 4_702_111_234_234_838_632
"""Key of the advisory lock: any constant, as long as nothing else in the database takes it."""

LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE code: https://www.postgresql.org/docs/current/errcodes-appendix.html"""

LONGEST_RETRYING = 120
"""Seconds after which a migration gives up on a table in use."""

logger = logging.getLogger(__name__)


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
    revisions of the code. One that has more, because the code was rolled back, only causes a
    warning.

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
    if state.is_ahead:
        # The ancestors of an unknown revision are unknown, so missing revisions are too.
        logger.warning("%s", explain_ahead(state))
    elif state.missing:
        raise StartupError(_explain_behind(state))


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

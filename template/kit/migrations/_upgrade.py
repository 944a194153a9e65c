"""Bringing a database to the heads, one process at a time."""

from collections.abc import Callable

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import kit.database  # noqa: F401 (protects `alembic_version` too)
from kit.migrations._state import note_applied

UPGRADE_LOCK = 4_702_111_234_234_838_632
"""Key of the advisory lock: any constant, as long as nothing else in the database takes it."""


def lock_migrations(connection: Connection) -> None:
    """Wait until no other process migrates this database; freed when the transaction ends.

    It belongs to the transaction rather than the session because a pooler in transaction mode
    gives the session's next statement to another server connection. A migration that leaves the
    transaction, with `op.get_context().autocommit_block()`, therefore gives the lock up as well.
    """
    connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))


def upgrade_to_heads(
    connection: Connection,
    script: ScriptDirectory,
    on_version_apply: Callable[..., None] = note_applied,
) -> None:
    """Apply every missing revision, in the caller's transaction.

    Does what `alembic upgrade heads` does, for callers that run inside an event loop, where
    `kit/migrations/_env.py` could not start its own.
    """

    def missing_steps(applied: tuple[str, ...], _context: object) -> list[RevisionStep]:
        revisions = list(script.iterate_revisions("heads", applied, implicit_base=True))
        return [
            MigrationStep.upgrade_from_script(script.revision_map, revision)
            for revision in reversed(revisions)
        ]

    lock_migrations(connection)
    context = MigrationContext.configure(
        connection,
        opts={"script": script, "fn": missing_steps, "on_version_apply": (on_version_apply,)},
    )
    with Operations.context(context):
        context.run_migrations()

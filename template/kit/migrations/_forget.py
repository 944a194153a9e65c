"""Forget a removed extension: its tables stay, and Alembic no longer looks for its files."""

from collections.abc import Collection

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from kit.extensions import enabled_extensions
from kit.migrations._branches import extension_of
from kit.migrations._state import read_note, read_rows, write_note
from kit.migrations._upgrade import lock_migrations
from kit.settings import StartupError


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

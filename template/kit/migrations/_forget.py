"""Forgetting an extension that left: its tables stay, Alembic no longer looks for its files."""

from collections.abc import Collection

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from kit.extensions import enabled_extensions
from kit.migrations._branches import extension_of
from kit.migrations._state import read_note, read_rows, write_note
from kit.migrations._upgrade import lock_migrations
from kit.settings import StartupError


def forget_extension(connection: Connection, script: ScriptDirectory, extension: str) -> None:
    """Take an extension's revisions out of `alembic_version`, in the caller's transaction.

    Raises:
        StartupError: when the extension is enabled, not known to the database, or when nobody can
            tell which other revisions its row stood for.
    """
    if extension in enabled_extensions():
        raise StartupError(
            f"the extension {extension} is enabled. Take it out of ENABLED_EXTENSIONS first; to "
            f"drop its tables, run `make db-downgrade extension={extension}` before that."
        )
    lock_migrations(connection)
    rows = read_rows(connection)
    if not any(extension_of(row) == extension for row in rows):
        raise StartupError(f"the database has no revision of an extension {extension!r}.")
    note = read_note(connection)
    if "applied" not in note:
        raise StartupError(
            "alembic_version has lost its comment, which tells what else is applied. Enable the "
            "extension once more, run `uv run alembic upgrade heads`, then forget it."
        )
    tips = [tip for tip in {*rows, *note["applied"]} if extension_of(tip) != extension]
    connection.execute(text("DELETE FROM alembic_version"))
    for row in _without_implied(script, tips):
        connection.execute(
            text("INSERT INTO alembic_version (version_num) VALUES (:row)"), {"row": row}
        )
    write_note(connection, note | {"applied": sorted(tips)})


def _without_implied(script: ScriptDirectory, tips: Collection[str]) -> set[str]:
    """The revisions that no other of them depends on: what Alembic expects in its table."""
    known = {revision.revision for revision in script.walk_revisions()}
    implied = {
        ancestor.revision
        for tip in known.intersection(tips)
        for ancestor in script.iterate_revisions(tip, "base")
        if ancestor.revision != tip
    }
    return set(tips) - implied

"""The Alembic branches: the folders of their revisions, and their names."""

import re
from collections.abc import Collection
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from sqlalchemy import MetaData
from sqlmodel import SQLModel

from kit.extensions import enabled_extensions, extension_dir, load_extensions
from kit.places import service
from kit.settings import BASE_DIR, StartupError

CORE = "core"
SERVICE = "service"
"""Label of the service's own branch."""

ALEMBIC_DIR = BASE_DIR / "alembic"

EXTENSION_REVISION = re.compile(r"(?P<extension>\w+)_([0-9]{4}|[0-9a-f]{8})")
"""A revision id of an extension, as `hotel_0001` or `hotel_3f2a91c0`: it outlives the files."""


def version_location(branch: str) -> Path:
    """Folder of a branch's revisions; it need not exist."""
    if branch == CORE:
        return BASE_DIR / "kit" / "migrations" / "versions"
    if branch == SERVICE:
        return ALEMBIC_DIR / "versions"
    return extension_dir(branch) / "migrations"


def version_locations() -> list[Path]:
    """Folders of all active revisions: core's, the enabled extensions', the service's own."""
    return [version_location(branch) for branch in (CORE, *enabled_extensions(), SERVICE)]


def script_directory() -> ScriptDirectory:
    """Read all revisions, outside of an Alembic command.

    Raises:
        StartupError: when a revision depends on a missing one.
    """
    script = ScriptDirectory(ALEMBIC_DIR, version_locations=version_locations())
    refuse_missing_dependencies(script)
    return script


def refuse_missing_dependencies(script: ScriptDirectory) -> None:
    """Check that no revision depends on a missing one.

    Alembic itself would end with a bare `KeyError`.

    Raises:
        StartupError: naming the missing revision, the one that needs it, and what to do.
    """
    try:
        script.get_heads()
    except KeyError as error:
        missing = str(error.args[0])
        needed_by = ", ".join(_files_that_name(missing)) or "another revision"
        extension = extension_of(missing)
        remedy = "Restore its file, or remove it from depends_on there if it is gone permanently."
        if extension:
            remedy = (
                f"Enable the extension {extension} in ENABLED_EXTENSIONS, or restore its folder. "
                "If it is gone permanently, remove it from depends_on there, and all changes of "
                "its tables from upgrade() and downgrade(); its tables stay."
            )
        raise StartupError(
            f"there is no revision {missing}, but {needed_by} depends on it. {remedy}"
        ) from None


def _files_that_name(revision: str) -> list[str]:
    files = (path for folder in version_locations() for path in sorted(folder.glob("*.py")))
    return [
        str(path.relative_to(BASE_DIR))
        for path in files
        if f'"{revision}"' in path.read_text(encoding="utf-8")
    ]


def extension_of(revision: str) -> str | None:
    """The extension that a revision id names: `hotel` for `hotel_3f2a91c0`."""
    match = EXTENSION_REVISION.fullmatch(revision)
    return match["extension"] if match and match["extension"] != CORE else None


def heads_of(script: ScriptDirectory, branch: str) -> list[Script]:
    """The newest revisions of a branch: none before its first, several when it has forked."""
    heads = script.get_revisions(tuple(script.get_heads()))
    return [head for head in heads if branch in head.branch_labels]


def explain_forks(script: ScriptDirectory) -> list[str]:
    """Explain each branch that has several heads, with the remedy."""
    heads = {branch: heads_of(script, branch) for branch in (CORE, *enabled_extensions(), SERVICE)}
    return [explain_fork(branch, found) for branch, found in heads.items() if len(found) > 1]


def explain_fork(branch: str, heads: Collection[Script]) -> str:
    """Explain why a branch has these heads, with the remedy."""
    chosen = "" if branch == SERVICE else f" extension={branch}"
    return (
        f"the branch {branch} has several heads, {', '.join(head.revision for head in heads)}, as "
        f"where two people wrote a migration each. Join them with `make db-merge{chosen}`."
    )


def load_metadata() -> MetaData:
    """Import the models of core and of the enabled extensions, and return their tables."""
    service.module("models")  # declares the tables
    load_extensions("models")
    return SQLModel.metadata

"""The Alembic branches: their names, the folders of their revisions, the tables of each."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import ARRAY, Column, Enum, MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel

from kit.extensions import enabled_extensions, extension_dir, load_extensions
from kit.places import service
from kit.settings import BASE_DIR, StartupError

CORE = "core"
SERVICE = "service"
"""Label of the service's own branch."""

# Not `pyformat`, for which each % of a literal is doubled.
DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]

ALEMBIC_DIR = BASE_DIR / "alembic"

EXTENSION_REVISION = re.compile(r"(?P<extension>\w+)_([0-9]{4}|[0-9a-f]{8})")
"""A revision id of an extension, as `hotel_0001` or `hotel_3f2a91c0`: it outlives the files."""

BEGUN_TWICE = re.compile(r"Branch name '(\w+)' in revision (\w+) already used by revision (\w+)")


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
    """Check that no revision depends on a missing one, and that no branch begins twice.

    Alembic itself would end with a bare `KeyError`, or not say what to do.

    Raises:
        StartupError: naming the revisions, and what to do.
    """
    try:
        script.get_heads()
    except RevisionError as error:
        if not (match := BEGUN_TWICE.search(str(error))):
            raise
        branch, second, first = match.groups()
        raise StartupError(
            f"the branch {branch} begins twice, as where two people wrote its first migration. In "
            f"the file of {second}, set branch_labels = None and down_revision = '{first}'."
        ) from None
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


class Enumeration(NamedTuple):
    """A type of PostgreSQL, as the models declare it."""

    members: list[str]
    columns: list[Column[Any]]


def enumerations(metadata: MetaData) -> dict[str, Enumeration]:
    """Find the enumerations that PostgreSQL has a type for, by the type's name in SQL.

    Raises:
        CommandError: when two have the same name and not the same members.
    """
    found: dict[str, Enumeration] = {}
    for table in metadata.sorted_tables:
        for column in table.columns:
            if type_ := enumeration_of(column.type):
                name = type_name(type_)
                declared = found.setdefault(name, Enumeration(list(type_.enums), []))
                declared.columns.append(column)
                if declared.members != type_.enums:
                    places = " and ".join(str(each) for each in declared.columns)
                    raise CommandError(
                        f"name one of the enumerations of {places}, for example with "
                        f'Field(sa_type=Enum(…, name="other_{name}")): they have different '
                        f"members, but both are the type {name} in PostgreSQL"
                    )
    return found


def enumeration_of(type_: TypeEngine[Any]) -> Enum | None:
    """The enumeration behind a column's type, an array's too, if PostgreSQL has a type for it."""
    type_ = undecorated(type_)
    if isinstance(type_, ARRAY):
        return enumeration_of(type_.item_type)
    return type_ if isinstance(type_, Enum) and type_.native_enum else None


def undecorated(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of the database's column, for one that decorates it, such as SQLModel's strings."""
    return type_.load_dialect_impl(DIALECT) if isinstance(type_, TypeDecorator) else type_


def type_name(enumeration: Enum) -> str:
    """An enumeration's name in SQL, with its schema unless that is `public`."""
    schema = enumeration.schema if enumeration.schema != "public" else None
    return ".".join(
        map(DIALECT.identifier_preparer.quote, filter(None, (schema, enumeration.name)))
    )


class History(NamedTuple):
    """What the migrations did to the tables, by their keys in SQLAlchemy's metadata."""

    creators: dict[str, str]
    """The branch that created each table, the dropped ones too."""
    references: set[tuple[str, str]]
    """Each table with one that it has ever referred to."""
    tables: set[str]
    """Those of the newest revisions."""


class Owners:
    """Finds the branch that a table belongs to.

    A table belongs to the extension that contains its model. One without a model, such as an
    association table, belongs to the extension that it refers to; one that was removed from the
    models belongs to the branch that created it. Core's tables and the service's own are in the
    same package, so there the branch that created a table decides, too.
    """

    def __init__(self, metadata: MetaData, history: History) -> None:
        self._metadata = metadata
        self._history = history
        self._modules = {
            model.__table__.key: model.__module__
            for model in _subclasses(SQLModel)
            if getattr(model, "metadata", None) is metadata and hasattr(model, "__table__")
        }

    def owner(self, table: str) -> str:
        """Branch of a table: an extension's name, `core` or `service`."""
        extension = self._extension(table)
        if extension is None and table in self._metadata.tables and table not in self._modules:
            extensions = {self._extension(other) for other in self.referred(table)} - {None}
            extension = extensions.pop() if len(extensions) == 1 else None
        return extension or self._history.creators.get(table, SERVICE)

    def referred(self, table: str) -> set[str]:
        """Tables that a table's foreign keys refer to."""
        found = self._metadata.tables.get(table)
        if found is None:
            return set()
        return {key.column.table.key for key in found.foreign_keys} - {table}

    def related(self, table: str) -> set[str]:
        """Tables that a table refers to, has referred to, or the other way round.

        Those that share an enumeration with it, too.
        """
        pairs = [pair for pair in self._history.references if table in pair]
        sharing = [
            {column.table.key for column in each.columns} & self._history.tables
            for each in enumerations(self._metadata).values()
            if any(column.table.key == table for column in each.columns)
        ]
        return self.referred(table).union(*pairs, *sharing) - {table}

    def _extension(self, table: str) -> str | None:
        parts = self._modules.get(table, "").split(".")
        return parts[2] if parts[:2] == ["app", "extensions"] else None


def _subclasses(model: type[Any]) -> Iterator[Any]:
    for child in model.__subclasses__():
        yield child
        yield from _subclasses(child)

"""The Alembic branches: their names, folders and tables, and the migrations that a database has.

Alembic stores only the revisions that no other applied revision depends on. Once an extension's
files are removed, it is unknown which of core's revisions its row implied. So the newest applied
revision of every branch is also noted in the comment of the table `alembic_version`, and so are all
that were applied before: once the code was rolled back, nothing else can say what it lacks.
"""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import ARRAY, Column, Connection, Enum, MetaData, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.exc import NoReferencedTableError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import sort_tables_and_constraints
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel

from kit.database import load_models
from kit.extensions import enabled_extensions, extension_dir, present_extensions
from kit.settings import BASE_DIR, StartupError, settings

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
    load_models()
    with suppress(NoReferencedTableError):  # of an extension that is off; whoever needs it says so
        _open_circles(SQLModel.metadata)
    return SQLModel.metadata


def _open_circles(metadata: MetaData) -> None:
    """Mark the foreign keys that are added after the tables, where tables refer to each other.

    Those that may be NULL, if that is enough: then rows can be stored in one order, too.
    """
    for needed in (False, True):
        ordered = sort_tables_and_constraints(metadata.tables.values())  # type: ignore[no-untyped-call]
        *_, (_, late) = ordered
        circular = [key for key in late if not key.use_alter]
        tables = {key.table for key in circular}
        for key in circular:
            is_within = key.referred_table in tables - {key.table}
            if is_within and (needed or all(column.nullable for column in key.columns)):
                key.use_alter = True


def models_apart(metadata: MetaData) -> list[str]:
    """Tables and models that are not in the metadata: of views, and of another declarative base."""
    models = [*_subclasses(SQLModel), *_subclasses(DeclarativeBase)]
    tables = [(getattr(each, "__table__", None), each) for each in models]
    return sorted(
        f"{table.key} ({model.__module__}.{model.__name__})"
        for table, model in tables
        if table is not None and table.metadata is not metadata
    )


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


def domain_of(type_: TypeEngine[Any]) -> DOMAIN | None:
    """The domain behind a column's type, an array's too."""
    type_ = undecorated(type_)
    if isinstance(type_, ARRAY):
        return domain_of(type_.item_type)
    return type_ if isinstance(type_, DOMAIN) else None


def domains(metadata: MetaData) -> dict[str, DOMAIN]:
    """Find the domains of the models' columns, by their names in SQL."""
    columns = [column for table in metadata.tables.values() for column in table.columns]
    return {type_name(each): each for each in (domain_of(c.type) for c in columns) if each}


def undecorated(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of the database's column, for one that decorates it, such as SQLModel's strings."""
    return type_.load_dialect_impl(DIALECT) if isinstance(type_, TypeDecorator) else type_


def type_name(type_: Enum | DOMAIN) -> str:
    """Name in SQL of an enumeration or a domain, with its schema unless that is `public`."""
    schema = type_.schema if type_.schema != "public" else None
    return ".".join(map(DIALECT.identifier_preparer.quote, filter(None, (schema, type_.name))))


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


VERSION_TABLE = "alembic_version"


class MigrationState(NamedTuple):
    """The migrations of a database, compared with the revisions of the code."""

    applied: frozenset[str]
    """Newest applied revision of each branch that the code knows."""
    missing: list[str]
    """Heads of the code that the database lacks: it is behind."""
    unknown: list[str]
    """Applied revisions that the code lacks: the database is ahead, or an extension was removed."""
    has_tables: bool
    """Whether the database has any table of the models."""

    @property
    def is_empty(self) -> bool:
        """Whether the database has never had anything of this service."""
        return not (self.applied or self.unknown or self.has_tables)

    @property
    def orphans(self) -> list[str]:
        """Extensions whose revisions are applied but not in the code."""
        return sorted({name for name in map(extension_of, self.unknown) if name})

    @property
    def is_ahead(self) -> bool:
        """Whether the database has revisions of newer code, be it core's or the service's own."""
        return any(extension_of(revision) is None for revision in self.unknown)


def read_state(
    connection: Connection, script: ScriptDirectory, metadata: MetaData
) -> MigrationState:
    """Compare the migrations of the database with the revisions of the code."""
    rows = read_rows(connection)
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(rows) - known)
    note = read_note(connection) if unknown else {}
    noted = note.get("applied", [])
    applied = applied_tips(script, [row for row in (*rows, *noted) if row in known])
    heads = set(script.get_heads())
    is_ahead = any(extension_of(revision) is None for revision in unknown)
    # Where they are not noted, nobody knows what an unknown revision's ancestors are.
    history = note.get("history", heads if is_ahead else ())
    return MigrationState(
        applied=frozenset(applied),
        missing=sorted(heads.difference(applied, history)),
        unknown=unknown,
        has_tables=bool(set(inspect(connection).get_table_names()) & set(metadata.tables)),
    )


def read_rows(connection: Connection) -> list[str]:
    """Read the rows of `alembic_version`; none when there is no such table."""
    if connection.scalar(text("SELECT to_regclass(:table)"), {"table": VERSION_TABLE}) is None:
        return []
    return list(connection.scalars(text("SELECT version_num FROM alembic_version ORDER BY 1")))


def applied_tips(script: ScriptDirectory, rows: Collection[str]) -> list[str]:
    """Newest applied revision of each branch, computed from the rows of `alembic_version`."""
    current = script.get_all_current(tuple(rows))
    return sorted(revision.revision for revision in current)


def note_applied(
    *, ctx: MigrationContext, step: MigrationInfo, heads: Collection[str], **_others: object
) -> None:
    """Alembic's `on_version_apply` callback: note the applied revisions and the environment.

    Whose database it is, only the first revision can say: later, a developer's settings may name
    production's, as for a correction after a dump without comments was restored.
    """
    if ctx.as_sql or ctx.script is None or ctx.connection is None:
        return
    note = _with_applied(read_note(ctx.connection), ctx.script, heads)
    is_first = step.is_upgrade and not step.is_stamp and not step.source_revision_ids
    if is_first or settings.ENVIRONMENT == "production":
        was_production = note.get("environment") == "production"
        note["environment"] = "production" if was_production else settings.ENVIRONMENT
    write_note(ctx.connection, note)


def complete_note(connection: Connection, script: ScriptDirectory) -> None:
    """Note what is applied, and that production uses the database, if there was nothing to do."""
    note, rows = read_note(connection), read_rows(connection)
    is_known = not set(rows) - {revision.revision for revision in script.walk_revisions()}
    complete = _with_applied(note, script, rows) if is_known else dict(note)
    if settings.ENVIRONMENT == "production":
        complete["environment"] = "production"
    if rows and complete != note:
        write_note(connection, complete)


def _with_applied(
    note: dict[str, Any], script: ScriptDirectory, rows: Collection[str]
) -> dict[str, Any]:
    """Note what these rows imply; an extension that none implies, after an edit, is forgotten."""
    known = {revision.revision for revision in script.walk_revisions()}
    forgotten = dict(note.get("forgotten", {}))
    for tip in set(note.get("applied", [])) - known:
        if extension := extension_of(tip):
            forgotten[extension] = [tip]
    lacking = script.iterate_revisions("heads", tuple(rows), implicit_base=True)
    history = known.difference(each.revision for each in lacking)
    complete = note | {"applied": applied_tips(script, rows), "history": sorted(history)}
    return complete | {"forgotten": forgotten} if forgotten else complete


def read_note(connection: Connection) -> dict[str, Any]:
    """Read the note stored with `alembic_version`; empty when there is none."""
    comment = connection.scalar(
        text("SELECT obj_description(to_regclass(:table), 'pg_class')"), {"table": VERSION_TABLE}
    )
    try:
        note = json.loads(comment or "{}")
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def write_note(connection: Connection, note: dict[str, Any]) -> None:
    """Store a note with `alembic_version`, in the caller's transaction."""
    # COMMENT takes no parameters.
    literal = json.dumps(note, sort_keys=True).replace("'", "''")
    connection.exec_driver_sql(f"COMMENT ON TABLE {VERSION_TABLE} IS '{literal}'")


def refuse_unknown_revisions(state: MigrationState) -> None:
    """Refuse a database command that Alembic could not run.

    Raises:
        StartupError: when the database has revisions that the code does not have.
    """
    if state.orphans:
        raise StartupError(" ".join(map(explain_orphan, state.orphans)))
    if state.unknown:
        raise StartupError(explain_ahead(state))


def explain_orphan(extension: str) -> str:
    """Explain an extension whose tables are left in the database, with the remedies."""
    if extension in present_extensions():
        cause = f"the extension {extension} is not enabled, but the database has its tables"
        back = f"add {extension} to ENABLED_EXTENSIONS"
    else:
        cause = f"the extension {extension} was removed, but the database has its tables"
        back = f"restore app/extensions/{extension} and enable it"
    return (
        f"{cause}. To keep it, {back}; to drop its tables, do that and run "
        f"`make db-downgrade extension={extension}`; to keep the tables without it, run "
        f"`make db-forget extension={extension}`."
    )


def explain_ahead(state: MigrationState) -> str:
    """Explain a database that has revisions unknown to the code, with the remedies."""
    if state.missing:
        return (
            f"the database is ahead of this code: it has {', '.join(state.unknown)}, which no file "
            f"here defines; and behind it, too: it lacks {', '.join(state.missing)}. Bring back "
            "the migration of the release that was rolled back and run `make db-merge`, or "
            "downgrade the database with that release's code first."
        )
    return (
        f"the database is ahead of this code: it has {', '.join(state.unknown)}, which no file "
        "here defines. Deploy the code that has it, or downgrade the database with that code."
    )

"""Completes the revision that `alembic revision --autogenerate` writes, and chooses its branch."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from alembic.autogenerate import render
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.rewriter import Rewriter
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Enum, MetaData
from sqlalchemy.dialects.postgresql import CreateEnumType, DropEnumType
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel

from kit.extensions import enabled_extensions
from kit.migrations._branches import CORE, SERVICE, explain_fork, heads_of, version_location

row_security_rewriter = Rewriter()

REVISION_ID_LENGTH = 32
"""Characters that fit into the column of `alembic_version`."""


class RevisionRequest(NamedTuple):
    """The options of the command line beside Alembic's own."""

    branch: str
    """`service`, or the extension that `-x extension=…` names."""
    is_autogenerate: bool
    creators: Mapping[str, str]
    """The branch that created each table, by the table's name."""


def complete_revision(
    request: RevisionRequest,
    script: ScriptDirectory,
    metadata: MetaData,
    context: MigrationContext,
    _current: object,
    directives: list[ops.MigrationScript],
) -> None:
    """Set a new revision's branch, folder, id and dependencies, and add row level security.

    Values from the command line, such as `--head` or `--rev-id`, stay as they are.

    Raises:
        CommandError: when the extension is not enabled, its name is too long for a revision id, or
            the branch has several heads.
    """
    revision = directives[0]
    owners = Owners(metadata, request.creators)
    notices = []
    if request.branch == SERVICE:
        notices += _mention_extensions(revision, owners)
    elif request.branch != CORE:
        _refuse_unusable_extension(request.branch)
        notices += _keep_tables_of(request.branch, revision, owners)
    if request.is_autogenerate and not _operations(revision):
        notices.append("The models and the migrations agree: no revision is needed.")
        directives.clear()
    else:
        _place(revision, request.branch, script)
        if revision.depends_on is None:
            revision.depends_on = _dependencies(revision, request.branch, script, owners)
        _make_enumerations(revision, metadata, context)
        row_security_rewriter(context, (), directives)
    if context.config is not None:
        for notice in notices:
            context.config.print_stdout(notice)


def render_item(kind: str, item: object, context: AutogenContext) -> str | Literal[False]:
    """Render a type that is not SQLAlchemy's, such as SQLModel's `UTCDateTime` or an owner's.

    A decorated type is rendered as the type of the database's column, so a revision imports no
    model; for any other, the revision imports its module.
    """
    if kind != "type" or type(item).__module__.startswith("sqlalchemy."):
        return False
    if isinstance(item, TypeDecorator):
        dialect = context.migration_context.dialect
        return render._repr_type(item.load_dialect_impl(dialect), context)  # noqa: SLF001
    context.imports.add(f"import {type(item).__module__}")
    return False


class Owners:
    """Finds the branch that a table belongs to.

    A table belongs to the extension that contains its model. One without a model, such as an
    association table, belongs to the extension that it refers to; one that was removed from the
    models belongs to the branch that created it. Core's tables and the service's own are in the
    same package, so there the branch that created a table decides, too.
    """

    def __init__(self, metadata: MetaData, creators: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._creators = creators
        self._modules = {
            model.__table__.key: model.__module__
            for model in _subclasses(SQLModel)
            if hasattr(model, "__table__")
        }

    def owner(self, table: str) -> str:
        """Branch of a table: an extension's name, `core` or `service`."""
        extension = self._extension(table)
        if extension is None and table in self._metadata.tables and table not in self._modules:
            extensions = {self._extension(other) for other in self.referred(table)} - {None}
            extension = extensions.pop() if len(extensions) == 1 else None
        return extension or self._creators.get(table, SERVICE)

    def referred(self, table: str) -> set[str]:
        """Tables that a table's foreign keys refer to."""
        found = self._metadata.tables.get(table)
        if found is None:
            return set()
        return {key.column.table.key for key in found.foreign_keys} - {table}

    def _extension(self, table: str) -> str | None:
        parts = self._modules.get(table, "").split(".")
        return parts[2] if parts[:2] == ["app", "extensions"] else None


def _subclasses(model: type[Any]) -> Iterator[Any]:
    for child in model.__subclasses__():
        yield child
        yield from _subclasses(child)


def _refuse_unusable_extension(extension: str) -> None:
    if extension not in enabled_extensions():
        raise CommandError(
            f"the extension {extension} is not enabled: add it to ENABLED_EXTENSIONS first"
        )
    if len(_extension_revision_id(extension)) > REVISION_ID_LENGTH:
        raise CommandError(
            f"the extension's name {extension} is too long for a revision id: at most "
            f"{REVISION_ID_LENGTH - len(_extension_revision_id(''))} characters"
        )


def _extension_revision_id(extension: str) -> str:
    return f"{extension}_{secrets.token_hex(4)}"


def _operations(revision: ops.MigrationScript) -> list[ops.MigrateOperation]:
    return [operation for upgrade in revision.upgrade_ops_list for operation in upgrade.ops]


def _tables(revision: ops.MigrationScript) -> set[str]:
    return {table for operation in _operations(revision) if (table := _table_of(operation))}


def _table_of(operation: ops.MigrateOperation) -> str | None:
    name: str | None = getattr(operation, "table_name", None)
    schema: str | None = getattr(operation, "schema", None)
    return f"{schema}.{name}" if schema and name else name


def _keep_tables_of(extension: str, revision: ops.MigrationScript, owners: Owners) -> list[str]:
    left_out = {table for table in _tables(revision) if owners.owner(table) != extension}
    for container in (*revision.upgrade_ops_list, *revision.downgrade_ops_list):
        container.ops = [
            operation for operation in container.ops if _table_of(operation) not in left_out
        ]
    if not left_out:
        return []
    return [f"Left out, not of the extension {extension}: {', '.join(sorted(left_out))}."]


def _make_enumerations(
    revision: ops.MigrationScript, metadata: MetaData, context: MigrationContext
) -> None:
    """Create and drop the types that PostgreSQL has for enumerations of one column.

    Alembic creates them with a table alone, and drops none.
    """
    types = [column.type for table in metadata.tables.values() for column in table.columns]
    names = [each.name for each in types if isinstance(each, Enum)]
    for up, down in zip(revision.upgrade_ops_list, revision.downgrade_ops_list, strict=True):
        tables = [each for each in up.ops if isinstance(each, ops.CreateTableOp)]
        new = [column for table in tables for column in table.columns]
        changes = [each for each in up.ops if isinstance(each, ops.ModifyTableOps)]
        added = [
            each.column
            for change in changes
            for each in change.ops
            if isinstance(each, ops.AddColumnOp)
        ]
        for column in [*new, *added]:
            type_ = getattr(column, "type", None)
            if not isinstance(type_, Enum) or not type_.native_enum or names.count(type_.name) != 1:
                continue
            native = type_.dialect_impl(context.dialect)
            down.ops.append(
                ops.ExecuteSQLOp(str(DropEnumType(native).compile(dialect=context.dialect)))
            )
            if any(column is each for each in added):
                create = CreateEnumType(native).compile(dialect=context.dialect)
                up.ops.insert(0, ops.ExecuteSQLOp(str(create)))


def _mention_extensions(revision: ops.MigrationScript, owners: Owners) -> list[str]:
    extensions = {owners.owner(table) for table in _tables(revision)} & set(enabled_extensions())
    return [
        f"This revision of the service changes tables of the extension {extension}. If that is an "
        "extension of your own, delete the new file and run "
        f'`make db-migrate extension={extension} message="…"` first.'
        for extension in sorted(extensions)
    ]


def _place(revision: ops.MigrationScript, branch: str, script: ScriptDirectory) -> None:
    if revision.head not in (None, "head") or revision.splice or revision.version_path:
        return
    heads = heads_of(script, branch)
    if len(heads) > 1:
        raise CommandError(explain_fork(branch, heads))
    revision.head = heads[0].revision if heads else "base"
    revision.version_path = str(version_location(branch))
    if not heads and revision.branch_label is None:
        revision.branch_label = branch
    if branch not in (CORE, SERVICE) and not (revision.rev_id or "").startswith(f"{branch}_"):
        revision.rev_id = _extension_revision_id(branch)


def _dependencies(
    revision: ops.MigrationScript, branch: str, script: ScriptDirectory, owners: Owners
) -> list[str]:
    """Heads of core, and of the branches whose tables the revision changes or refers to."""
    if branch == CORE:
        return []
    touched = _tables(revision)
    referred = {other for table in touched for other in owners.referred(table)}
    branches = {CORE, *map(owners.owner, touched | referred)} - {branch, SERVICE}
    heads = {head.revision for other in branches for head in heads_of(script, other)}
    builds_on = {
        ancestor.revision
        for head in heads_of(script, branch)
        for ancestor in script.iterate_revisions(head.revision, "base")
    }
    return sorted(heads - builds_on)


# SQLAlchemy's event in kit/conventions.py would do it too; here a reader can see it.
@row_security_rewriter.rewrites(ops.CreateTableOp)
def _enable_row_security(
    context: MigrationContext, _revision: object, operation: ops.CreateTableOp
) -> list[ops.MigrateOperation]:
    quote = context.dialect.identifier_preparer.quote
    name = ".".join(quote(part) for part in (operation.schema, operation.table_name) if part)
    return [operation, ops.ExecuteSQLOp(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")]

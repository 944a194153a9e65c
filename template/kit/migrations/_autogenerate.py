"""Completes the revision that `alembic revision --autogenerate` writes, and tries it."""

import logging
import secrets
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from alembic.autogenerate import render, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError, rev_id
from sqlalchemy.dialects.postgresql import DOMAIN, ENUM, CreateDomainType
from sqlalchemy.schema import CreateSequence
from sqlalchemy.types import TypeDecorator, TypeEngine

from kit.extensions import enabled_extensions
from kit.migrations._branches import (
    CORE,
    DIALECT,
    SERVICE,
    History,
    Owners,
    domain_of,
    domains,
    enumeration_of,
    enumerations,
    explain_fork,
    heads_of,
    models_apart,
    type_name,
    undecorated,
    version_location,
)
from kit.migrations._upgrade import (
    NOT_OF_MODELS,
    compare_with_models,
    constant_default,
    escaped,
    read_objects,
)

REVISION_ID_LENGTH = 32
"""Characters that fit into the column of `alembic_version`."""

logger = logging.getLogger("alembic")
quote = DIALECT.identifier_preparer.quote


class RevisionRequest(NamedTuple):
    """The options of the command line beside Alembic's own."""

    branch: str
    """`service`, or the extension that `-x extension=…` names."""
    is_autogenerate: bool
    history: History | None
    """Of the scratch database that the models are compared with, if they are."""


class Note(ops.MigrateOperation):
    """A comment in a revision, which is also logged when it is written."""

    def __init__(self, note: str) -> None:
        self.note = note

    def to_diff_tuple(self) -> tuple[str, str]:
        """What `alembic check` prints of it."""
        return ("note", self.note)


class OutsideTransaction(ops.OpContainer):
    """Operations in an `autocommit_block()`."""


@renderers.dispatch_for(Note)
def _render_note(_context: AutogenContext, operation: Note) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(operation.note, 90, break_on_hyphens=False)]


@renderers.dispatch_for(OutsideTransaction)
def _render_outside(context: AutogenContext, block: OutsideTransaction) -> list[str]:
    lines = [line for each in block.ops for line in render.render_op(context, each)]
    return ["with op.get_context().autocommit_block():", *lines, ""]


@renderers.dispatch_for(ops.AlterColumnOp, replace=True)
def _render_alteration(context: AutogenContext, operation: ops.AlterColumnOp) -> str:
    """As Alembic, with the former identity, which it leaves out and needs to change it."""
    code = render._alter_column(context, operation)  # noqa: SLF001
    existing = operation.existing_server_default
    if isinstance(existing, sa.Identity) and operation.modify_server_default is not False:
        identity = render._render_server_default(existing, context)  # noqa: SLF001
        code = f"{code.removesuffix(')')}, existing_server_default={identity})"
    return code


def complete_revision(
    request: RevisionRequest,
    script: ScriptDirectory,
    metadata: sa.MetaData,
    context: MigrationContext,
    _current: object,
    directives: list[ops.MigrationScript],
) -> None:
    """Set a new revision's branch, folder, id and dependencies, and complete what it does.

    Values from the command line, such as `--head` or `--rev-id`, stay as they are.

    Raises:
        CommandError: when the extension is not enabled, its name is too long for a revision id, or
            the branch has several heads; when a table refers to one that has no migration yet, or
            what differs has to be written by hand.
    """
    revision, connection = directives[0], context.connection
    owners = Owners(metadata, request.history or History({}, set(), set()))
    left_out: set[str] = set()
    if request.branch not in (CORE, SERVICE):
        _refuse_unusable_extension(request.branch)
    if request.history and connection:
        up, down = revision.upgrade_ops_list[0], revision.downgrade_ops_list[0]
        _change_enumerations(up, down, metadata, connection)
        if request.branch not in (CORE, SERVICE):
            left_out = _keep_tables_of(request.branch, revision, owners)
        _refuse_missing_tables(revision, owners, request.history)
        _complete_operations(up, down, metadata, connection)
        _try(up, down, metadata, context, is_whole=not left_out)
    notices = [f"Left out, not of the extension {request.branch}: {name}." for name in left_out]
    if request.branch == SERVICE:
        notices += _mention_extensions(revision, owners) + _mention_kit(revision, owners)
    if request.is_autogenerate and not _operations(revision):
        notices += [] if left_out else _agreement(connection, metadata)
        directives.clear()
    else:
        _place(revision, request.branch, script)
        if revision.depends_on is None:
            revision.depends_on = _dependencies(revision, request.branch, script, owners)
        if request.is_autogenerate:
            directives += _indexes_apart(revision, request.branch)
    for notice in notices:
        if context.config is not None:
            context.config.print_stdout(notice)


def render_item(kind: str, item: object, context: AutogenContext) -> str | Literal[False]:
    """Render a type so that a revision neither imports a model nor makes a type by the way.

    A decorated type is rendered as the type of the database's column. Enumerations and domains have
    statements of their own: Alembic creates them with a table alone, once for each column, and
    drops none. For any other type that is not SQLAlchemy's, the revision imports its module.
    """
    if kind != "type":
        return False
    if isinstance(item, sa.Enum) and item.native_enum:
        context.imports.add("from sqlalchemy.dialects import postgresql")
        enumeration = ENUM(*item.enums, name=item.name, schema=item.schema, create_type=False)
        return f"postgresql.{enumeration!r}"
    if isinstance(item, DOMAIN):
        context.imports.add("from sqlalchemy.dialects import postgresql")
        schema = f", schema={item.schema!r}" if item.schema else ""
        of = render._repr_type(item.data_type, context)  # noqa: SLF001
        return f"postgresql.DOMAIN({item.name!r}, {of}{schema}, create_type=False)"
    if type(item).__module__.startswith("sqlalchemy."):
        return False
    if isinstance(item, TypeDecorator):
        return render._repr_type(undecorated(item), context)  # noqa: SLF001
    context.imports.add(f"import {type(item).__module__}")
    return False


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


def _flat(operations: Sequence[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for each in operations:
        yield from _flat(each.ops) if isinstance(each, ops.ModifyTableOps) else [each]


def _tables(revision: ops.MigrationScript) -> set[str]:
    return {table for operation in _operations(revision) if (table := _table_of(operation))}


def _table_of(operation: ops.MigrateOperation) -> str | None:
    name: str | None = getattr(operation, "table_name", None)
    schema: str | None = getattr(operation, "schema", None)
    return f"{schema}.{name}" if schema and name else name


def _keep_tables_of(extension: str, revision: ops.MigrationScript, owners: Owners) -> set[str]:
    left_out = {table for table in _tables(revision) if owners.owner(table) != extension}
    for container in (*revision.upgrade_ops_list, *revision.downgrade_ops_list):
        container.ops = [each for each in container.ops if _table_of(each) not in left_out]
    return left_out


def _refuse_missing_tables(revision: ops.MigrationScript, owners: Owners, history: History) -> None:
    tables = _tables(revision)
    for table in sorted(tables):
        for other in sorted(owners.referred(table) - history.tables - tables):
            owner = owners.owner(other)
            chosen = "" if owner == SERVICE else f" extension={owner}"
            both = (
                f" {other} refers back, so neither can come first: leave one of the foreign keys "
                "out of its model until both tables have a migration."
            )
            raise CommandError(
                f"{table} refers to {other}, which has no migration yet. First run "
                f'`make db-migrate{chosen} message="…"`.'
                + (both if owners.referred(other) & tables else "")
            )


def _mention_extensions(revision: ops.MigrationScript, owners: Owners) -> list[str]:
    extensions = {owners.owner(table) for table in _tables(revision)} & set(enabled_extensions())
    return [
        f"This revision of the service changes tables of the extension {extension}. If that is an "
        "extension of your own, delete the new file and run "
        f'`make db-migrate extension={extension} message="…"` first.'
        for extension in sorted(extensions)
    ]


def _mention_kit(revision: ops.MigrationScript, owners: Owners) -> list[str]:
    return [
        f"This revision drops {each.index_name} of {each.table_name}, a table of the kit. To keep "
        "that index, delete the new file and write the index as an `Index` in `app/models/`."
        for each in _flat(_operations(revision))
        if isinstance(each, ops.DropIndexOp) and owners.owner(each.table_name or "") == CORE
    ]


def _agreement(connection: sa.Connection | None, metadata: sa.MetaData) -> list[str]:
    objects = sorted(read_objects(connection)) if connection else []
    others = [each for each in objects if each.startswith(NOT_OF_MODELS)]
    return [
        "The models and the migrations agree: no revision is needed.",
        *(f"Not compared, as no model describes it: {each.splitlines()[0]}" for each in others),
        *(
            f"Not compared, as its model has a MetaData other than SQLModel's: {each}"
            for each in models_apart(metadata)
        ),
    ]


# Members of enumerations


def _change_enumerations(
    up: ops.UpgradeOps, down: ops.DowngradeOps, metadata: sa.MetaData, connection: sa.Connection
) -> None:
    """Change members first, and back last, when the tables are as they were."""
    stored = _stored_enumerations(connection)
    for name, (after, columns) in enumerations(metadata).items():
        before, table = stored.get(name, after), columns[0].table
        if before != after:
            uses = [
                connection.execute(query, {"name": name, "cast": f"%::{name}%"}).all()
                for query in (USERS, DEPENDENTS)
            ]
            change, back = _change_members(name, before, after, uses)
            up.ops.insert(0, ops.ModifyTableOps(table.name, change, schema=table.schema))
            down.ops.append(ops.ModifyTableOps(table.name, back, schema=table.schema))


def _stored_enumerations(connection: sa.Connection) -> dict[str, list[str]]:
    inspector: Any = sa.inspect(connection)  # PostgreSQL's
    return {
        type_name(sa.Enum(name=each["name"], schema=each["schema"])): each["labels"]
        for each in inspector.get_enums("*")
    }


USERS = sa.text("""
    SELECT attrelid::regclass::text, quote_ident(attname),
        CASE atttypid WHEN typarray THEN '[]' ELSE '' END, pg_get_expr(adbin, adrelid)
    FROM pg_type JOIN pg_attribute ON atttypid IN (pg_type.oid, typarray)
    JOIN pg_class ON pg_class.oid = attrelid AND relkind IN ('r', 'p') AND NOT relispartition
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE pg_type.oid = to_regtype(:name) AND NOT attisdropped ORDER BY 1, 2
""")
"""Table, column, brackets of an array, and default of each column of a type."""

DEPENDENTS = sa.text("""
    SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
    FROM pg_index WHERE pg_get_indexdef(indexrelid) LIKE :cast
    UNION ALL SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
            pg_get_constraintdef(oid))
    FROM pg_constraint WHERE contype = 'c' AND pg_get_constraintdef(oid) LIKE :cast
""")
"""What removes and makes each index and check that compares with a member."""


def _change_members(
    name: str, before: list[str], after: list[str], uses: Sequence[Any]
) -> tuple[list[ops.MigrateOperation], list[ops.MigrateOperation]]:
    """Change the members of a type, and change them back."""
    gone = [each for each in before if each not in after]
    new = [each for each in after if each not in before]
    if len(before) == len(after) and [after[before.index(each)] for each in gone] == new:
        pairs = [*zip(gone, new, strict=True)]
        rename = f"ALTER TYPE {name} RENAME VALUE {{}} TO {{}}".format
        note = Note(
            f"Rows that have {', '.join(gone)} have {', '.join(new)} then. If that is another "
            "member rather than a new name, remove the one in a revision, and add the other in the "
            "next."
        )
        return (
            [note, *(_sql(rename(_literal(old), _literal(other))) for old, other in pairs)],
            [_sql(rename(_literal(other), _literal(old))) for old, other in pairs],
        )
    back = [*_replace_type(name, before, new, *uses)]
    if gone or [each for each in after if each in before] != before:
        return [*_replace_type(name, after, gone, *uses)], back
    # PostgreSQL lets no statement use a new member in the transaction that added it.
    additions = [
        _sql(
            f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {_literal(each)} "
            + (f"AFTER {_literal(after[place - 1])}" if place else f"BEFORE {_literal(before[0])}")
        )
        for place, each in enumerate(after)
        if each in new
    ]
    return [OutsideTransaction(additions)], back


def _replace_type(
    name: str, members: list[str], gone: list[str], users: Sequence[Any], dependents: Sequence[Any]
) -> Iterator[ops.MigrateOperation]:
    """Give columns a new type of the same name; it fails while a row has a member that goes."""
    if gone:
        places = ", ".join(f"{table}.{column}" for table, column, *_ in users)
        yield Note(
            f"Fails, and changes nothing, while a row has {' or '.join(gone)}. Give such rows "
            f"another member here first, with an UPDATE of {places}."
        )
    schema, _, plain = name.rpartition(".")
    old = quote(plain.strip('"') + "_before")
    yield from (_sql(removal) for removal, _ in dependents)
    yield _sql(f"ALTER TYPE {name} RENAME TO {old}")
    yield _sql(_create_enumeration(name, members))
    for table, column, array, default in users:
        alter = f"ALTER TABLE {table} ALTER COLUMN {column}"
        if default:
            yield _sql(f"{alter} DROP DEFAULT")
        yield _sql(f"{alter} TYPE {name}{array} USING {column}::text{array}::{name}{array}")
        if default and default not in (f"{_literal(each)}::{name}" for each in gone):
            yield _sql(f"{alter} SET DEFAULT {default}")
    yield from (_sql(definition) for _, definition in dependents)
    yield _sql(f"DROP TYPE {schema}{schema and '.'}{old}")


def _create_enumeration(name: str, members: Sequence[str]) -> str:
    return f"CREATE TYPE {name} AS ENUM ({', '.join(map(_literal, members))})"


def _sql(statement: str) -> ops.ExecuteSQLOp:
    return ops.ExecuteSQLOp(escaped(statement))


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# Beside what Alembic writes


def _complete_operations(
    up: ops.UpgradeOps, down: ops.DowngradeOps, metadata: sa.MetaData, connection: sa.Connection
) -> None:
    """Add types, schemas and row level security, and what rows that are there need."""
    stored = {*_stored_enumerations(connection), *_stored(connection, "domains")}
    unneeded = stored - enumerations(metadata).keys() - domains(metadata).keys()
    new = {name: sql for name, sql in _types_in(up).items() if name not in stored}
    unused = {name: sql for name, sql in _types_in(down).items() if name in unneeded}
    sequences = _sequences_in(up).keys() - _stored(connection, "sequence_names")
    named = [_table_in_sql(each) for each in up.ops if isinstance(each, ops.CreateTableOp)]
    schemas = {each.rpartition(".")[0] for each in (*named, *new)} - {""}
    schemas -= {quote(each) for each in sa.inspect(connection).get_schema_names()}
    late, late_back = _late_foreign_keys(up), _late_foreign_keys(down)
    up.ops = [
        *(each.reverse() for each in late_back),
        *(_sql(f"CREATE SCHEMA IF NOT EXISTS {each}") for each in sorted(schemas)),
        *map(_sql, new.values()),
        *(_sql(_sequences_in(up)[each]) for each in sorted(sequences)),
        *(part for each in up.ops for part in _complete(each, up)),
        *late,
        *(_sql(f"DROP TYPE {each}") for each in unused),
    ]
    down.ops = [
        *map(_sql, unused.values()),
        *(each.reverse() for each in late),
        *(part for each in down.ops for part in (each, *_row_security(each))),
        *late_back,
        *(_sql(f"DROP SEQUENCE {each}") for each in sorted(sequences)),
        *(_sql(f"DROP TYPE {each}") for each in new),
        *(_sql(f"DROP SCHEMA {each}") for each in sorted(schemas)),
    ]


def _late_foreign_keys(container: ops.OpContainer) -> list[ops.CreateForeignKeyOp]:
    """Take the foreign keys out of new tables that refer to a table which is created after them."""
    late = []
    tables = [each for each in container.ops if isinstance(each, ops.CreateTableOp)]
    for i, table in enumerate(tables):
        later = {(each.schema, each.table_name) for each in tables[i + 1 :]}
        parts, table.columns = table.columns, []
        for part in parts:
            if isinstance(part, sa.ForeignKeyConstraint):
                key = ops.CreateForeignKeyOp.from_constraint(part)
                needs_alter = key.kw.pop("use_alter", False)
                if needs_alter or (key.kw["referent_schema"], key.referent_table) in later:
                    late.append(key)
                    continue
            table.columns = [*table.columns, part]
    return late


def _columns_in(container: ops.OpContainer) -> Iterator[sa.Column[Any]]:
    for each in _flat(container.ops):
        if isinstance(each, ops.CreateTableOp):
            yield from (column for column in each.columns if isinstance(column, sa.Column))
        elif isinstance(each, ops.AddColumnOp):
            yield each.column


def _types_in(container: ops.OpContainer) -> dict[str, str]:
    """What makes the types of the columns that operations create or change, by their names."""
    changed = [each for each in _flat(container.ops) if isinstance(each, ops.AlterColumnOp)]
    types: list[Any] = [each.type for each in _columns_in(container)]
    types += [each.modify_type for each in changed]
    found = {}
    for type_ in types:
        if enumeration := enumeration_of(type_):
            name = type_name(enumeration)
            found[name] = _create_enumeration(name, enumeration.enums)
        elif domain := domain_of(type_):
            parts: tuple[Any, ...] = (domain, domain.data_type)
            for part in parts:  # of the database, where both name it
                if getattr(part, "collation", None) == "default":
                    part.collation = None
            found[type_name(domain)] = str(CreateDomainType(domain).compile(dialect=DIALECT))
    return found


def _sequences_in(container: ops.OpContainer) -> dict[str, str]:
    """What makes the sequences that columns are filled from, by their names."""
    found = {}
    for column in _columns_in(container):
        for default in (column.default, getattr(column.server_default, "arg", None)):
            sequence = getattr(default, "sequence", default)
            if isinstance(sequence, sa.Sequence):
                sql = str(CreateSequence(sequence).compile(dialect=DIALECT))
                found[DIALECT.identifier_preparer.format_sequence(sequence)] = sql
    return found


def _stored(connection: sa.Connection, kind: Literal["domains", "sequence_names"]) -> set[str]:
    """Names in SQL of what the database has, in all schemas."""
    inspector: Any = sa.inspect(connection)
    if kind == "domains":
        found = inspector.get_domains("*")
        return {type_name(DOMAIN(each["name"], sa.Text(), schema=each["schema"])) for each in found}
    public = inspector.default_schema_name
    return {
        ".".join(map(quote, filter(None, (schema if schema != public else None, name))))
        for schema in inspector.get_schema_names()
        for name in inspector.get_sequence_names(schema)
    }


# SQLAlchemy's event in kit/conventions.py would do it too; here a reader can see it.
def _row_security(operation: ops.MigrateOperation) -> list[ops.MigrateOperation]:
    if not isinstance(operation, ops.CreateTableOp):
        return []
    return [_sql(f"ALTER TABLE {_table_in_sql(operation)} ENABLE ROW LEVEL SECURITY")]


def _table_in_sql(operation: Any) -> str:
    return ".".join(map(quote, filter(None, (operation.schema, operation.table_name))))


def _complete(
    operation: ops.MigrateOperation, up: ops.UpgradeOps
) -> Iterator[ops.MigrateOperation]:
    """Complete an operation with what follows it, and note what rows lose."""
    created = [each for each in up.ops if isinstance(each, ops.CreateTableOp)]
    if isinstance(operation, ops.DropTableOp):
        for each in created:
            if _column_names(each) == _column_names(operation.reverse()):
                yield Note(
                    f"The rows of {operation.table_name} are lost. If its model is called "
                    f"{each.table_name} now, keep the table by __tablename__ = "
                    f"{operation.table_name!r}, or rename it as in the docs: Rename a table."
                )
    if isinstance(operation, ops.ModifyTableOps):
        dropped = [each for each in operation.ops if isinstance(each, ops.DropColumnOp)]
        table = _table_in_sql(operation)
        if table not in map(_table_in_sql, created):
            operation.ops = [
                part for each in operation.ops for part in _complete_change(each, table, dropped)
            ]
    yield from (operation, *_row_security(operation))


def _column_names(table: ops.CreateTableOp) -> list[str]:
    return sorted(each.name for each in table.columns if isinstance(each, sa.Column))


def _complete_change(
    operation: ops.MigrateOperation, table: str, dropped: list[ops.DropColumnOp]
) -> Iterator[ops.MigrateOperation]:
    """Complete an operation on a table that is there."""
    if isinstance(operation, ops.AddColumnOp):
        for each in dropped:
            if _type_in_sql(each.to_column().type) == _type_in_sql(operation.column.type):
                yield Note(
                    f"The values of {table}.{each.column_name} are lost. If it is called "
                    f"{operation.column.name} now, write op.alter_column(…, new_column_name=…) "
                    "instead of adding one and dropping the other."
                )
        yield from _fill_column(operation, table)
    elif isinstance(operation, ops.CreateIndexOp):
        operation.kw["postgresql_concurrently"] = True
        # One whose building was broken off stays, invalid.
        left = ops.DropIndexOp.from_index(operation.to_index())
        left.if_exists = True
        yield OutsideTransaction([left, operation])
    else:
        if isinstance(operation, ops.AlterColumnOp):
            yield from _note_alteration(operation, table)
        yield operation


def _fill_column(operation: ops.AddColumnOp, table: str) -> Iterator[ops.MigrateOperation]:
    """Add a column with a default for the rows that are there, if it needs one."""
    column, default = operation.column, constant_default(operation.column)
    if column.nullable or column.server_default or column.computed or column.identity:
        pass
    elif default is None:
        yield Note(
            f"Fails while {table} has rows. Give the model a default that is a constant, or a "
            "server_default; or write nullable=True here, then an UPDATE that fills it, then "
            "op.alter_column(…, nullable=False)."
        )
    else:
        yield Note(
            f"Rows that are there get {default}, and so do those of code that does not know "
            f"{column.name} yet."
        )
        options: Any = {"server_default": default, "nullable": False, "comment": column.comment}
        filled = sa.Column(column.name, column.type, **options)
        operation = ops.AddColumnOp(operation.table_name, filled, schema=operation.schema)
    yield operation


def _type_in_sql(type_: TypeEngine[Any]) -> str:
    return type_.compile(dialect=DIALECT)


def _note_alteration(operation: ops.AlterColumnOp, table: str) -> Iterator[ops.MigrateOperation]:
    column, old, new = operation.column_name, operation.existing_type, operation.modify_type
    if operation.modify_nullable is False:
        yield Note(f"Fails while a row of {table} has no {column}. Fill it first, with an UPDATE.")
    if old is not None and new is not None and not _is_wider(new, old):
        yield Note(
            f"Makes {_type_in_sql(new)} of each {_type_in_sql(old)} of {table}.{column}: fails "
            "where one does not fit, and rounds fractions. Look for such rows first, or fill a new "
            "column instead. PostgreSQL may have to know how: postgresql_using=…"
        )


def _is_wider(new: TypeEngine[Any], old: TypeEngine[Any]) -> bool:
    new = undecorated(new)
    if isinstance(new, sa.String) and isinstance(old, sa.String):
        return new.length is None or (old.length is not None and old.length <= new.length)
    return isinstance(new, sa.BigInteger) and isinstance(old, sa.Integer)


def _indexes_apart(revision: ops.MigrationScript, branch: str) -> list[ops.MigrationScript]:
    """Move indexes of existing tables to a revision of their own, unless they are all there is.

    If one could not be built, what stands beside it would stay applied and could not be repeated.
    """
    up, down = revision.upgrade_ops_list[0], revision.downgrade_ops_list[0]
    blocks = {
        part.index_name: each
        for each in _flat(up.ops)
        if isinstance(each, OutsideTransaction)
        for part in each.ops
        if isinstance(part, ops.CreateIndexOp)
    }
    drops = [
        each
        for each in _flat(down.ops)
        if isinstance(each, ops.DropIndexOp) and each.index_name in blocks
    ]
    if len(blocks) in (0, sum(not isinstance(each, Note) for each in _flat(up.ops))):
        return []
    for change in (*up.ops, *down.ops):
        if isinstance(change, ops.ModifyTableOps):
            change.ops = [each for each in change.ops if each not in (*blocks.values(), *drops)]
    is_extension_s = branch not in (CORE, SERVICE)
    apart = ops.MigrationScript(
        _extension_revision_id(branch) if is_extension_s else rev_id(),
        ops.UpgradeOps([*blocks.values()]),
        ops.DowngradeOps(drops),
        message=f"{revision.message}: indexes",
        head=revision.rev_id,
        version_path=revision.version_path,
    )
    return [apart]


# Trying it


def _try(
    up: ops.UpgradeOps,
    down: ops.DowngradeOps,
    metadata: sa.MetaData,
    context: MigrationContext,
    *,
    is_whole: bool,
) -> None:
    """Run a revision up and down on the scratch database, and note what fails or still differs.

    Raises:
        CommandError: when Alembic finds nothing to do, and yet something differs.
    """
    connection = context.connection
    assert connection is not None  # noqa: S101 (the scratch database's)
    before = read_objects(connection)
    failure = _run(up, context, connection)
    differing = compare_with_models(connection, metadata) if is_whole and not failure else []
    if failure:
        up.ops.insert(0, Note(f"Fails as it is: {failure}"))
    elif failure := _run(down, context, connection):
        down.ops.insert(0, Note(f"Fails as it is: {failure}"))
    elif left := read_objects(connection) ^ before:
        down.ops.insert(0, Note(f"Leaves a difference: {'; '.join(sorted(left))}"))
    if differing and not up.ops:
        raise CommandError(
            "Write a revision by hand, with `uv run alembic revision --message …`. Alembic does "
            "not write this: " + "; ".join(differing)
        )
    up.ops += [Note(f"Alembic does not write this; add it: {each}") for each in differing]
    for each in _flat([*up.ops, *down.ops]):
        if isinstance(each, Note):
            logger.warning("%s", each.note)


def _run(container: ops.OpContainer, context: MigrationContext, connection: sa.Connection) -> str:
    """Run operations as they will be written; what fails, if any does."""
    rendering = AutogenContext(context, autogenerate=False)
    body = render._render_cmd_body(container, rendering)  # noqa: SLF001
    code = "\n".join(["import sqlalchemy as sa", *rendering.imports, body])
    connection.rollback()
    trial = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
    try:
        with trial.begin_transaction(_per_migration=True):
            exec(code, {"op": Operations(trial)})  # noqa: S102 (the revision that is written)
    except Exception as error:  # noqa: BLE001 (whatever it is, it will be in the revision)
        connection.rollback()
        reason = str(getattr(error, "orig", error)).rpartition("'>: ")[2] or repr(error)
        return reason.splitlines()[0]
    return ""


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
    """Heads of core, and of the branches whose tables the revision changes or builds on."""
    if branch == CORE:
        return []
    touched = _tables(revision)
    related = {other for table in touched for other in owners.related(table)}
    branches = {CORE, *map(owners.owner, touched | related)} - {branch}
    heads = {head.revision for other in branches for head in heads_of(script, other)}
    own = {head.revision for head in heads_of(script, branch)}
    # Alembic fails at a dependency that another one implies.
    implied = {
        ancestor.revision
        for head in heads | own
        for ancestor in script.iterate_revisions(head, "base")
        if ancestor.revision not in {head} - own
    }
    return sorted(heads - implied)

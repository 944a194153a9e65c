"""What the service has already: models to refer to or to begin from, and what is in the way."""

import ast
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

import sqlalchemy as sa
from pydantic_core import PydanticUndefined
from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlmodel import SQLModel

from kit.discovery import place_of
from kit.extensions import public_name
from kit.migrations import load_metadata
from kit.resource._fields import Field, Names, Reference, names_of, refuse_name
from kit.resource._kinds import KINDS, Enum, Ref, Str
from kit.settings import BASE_DIR


def models(extension: str) -> dict[str, type[SQLModel]]:
    """The models that a resource may refer to, by the names that a person may write."""
    load_metadata()
    roots = ("app.models", *([f"app.extensions.{extension}."] if extension else []))
    found: dict[str, type[SQLModel]] = {}
    registry = SQLModel._sa_registry  # noqa: SLF001
    for mapper in sorted(registry.mappers, key=lambda each: each.class_.__name__):
        model: type[SQLModel] = mapper.class_
        if model.__module__.startswith(roots):
            name = names_of(model.__name__, extension=extension).name
            found |= dict.fromkeys((str(mapper.local_table), name, model.__name__), model)
    return found


def resolve_references(
    names: Names, fields: list[Field], own: type[SQLModel] | None, problems: list[str]
) -> None:
    """Find the model of each reference, and what the files need to know of it."""
    there = models(names.extension)
    targets: list[Any] = []
    for field in fields:
        if not isinstance(kind := field.kind, Ref):
            continue
        wanted = names_of(kind.model, extension=names.extension).name
        model = there.get(kind.model) or there.get(wanted)
        if model is own and (own is not None or wanted == names.name):
            field.reference = Reference(names.model, "", names.table, "id")
            if not field.is_nullable:
                problems.append(f"{field.name}: the first row could refer to none; write `?`")
            if field.is_unique:
                problems.append(f"{field.name}: cannot be unique in its own table; leave `!` out")
        elif model is None:
            shown = sorted(
                {names_of(each.__name__, extension=names.extension).name for each in there.values()}
            )
            close = get_close_matches(wanted, shown, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(shown)}"
            problems.append(
                f"{field.name}: there is no model {kind.model}; {hint if shown else 'none at all'}"
            )
        elif (key := key_of(model)) is None:
            problems.append(f"{field.name}: {place_of(model)} has another key than an `id`")
        else:
            kind.refer_to(key)
            field.reference = _reference(model)
        targets.append(field.reference and field.reference.table)
    references = [field for field in fields if field.reference]
    for field in references:
        assert field.reference  # noqa: S101
        field.needs_foreign_keys = targets.count(field.reference.table) > 1


def key_of(model: type[SQLModel]) -> str | None:
    """The kind of a model's id; None if it has another key."""
    mapper: Mapper[Any] = sa.inspect(model)
    if [column.name for column in mapper.primary_key] != ["id"]:
        return None
    kind = mapper.primary_key[0].type
    if isinstance(kind, sa.Uuid):
        return "uuid"
    if isinstance(kind, sa.BigInteger):
        return "bigint"
    return "int" if isinstance(kind, sa.Integer) else None


def _reference(model: type[SQLModel]) -> Reference:
    mapper: Mapper[Any] = sa.inspect(model)
    other = names_of(model.__name__, extension=extension_of(model))
    texts = [each.key for each in mapper.columns if _kind_of(each) == "text"]
    deletes = f"DELETE {other.page}/{{{other.name}_id}}"
    return Reference(
        model.__name__,
        model.__module__,
        str(mapper.local_table),
        texts[0] if texts else "id",
        f"{other.tests}.factories.{other.name}",
        f"make_{other.name}",
        other.path if any(deletes == name for name, _ in registered()) else "",
    )


def extension_of(model: type[SQLModel]) -> str:
    """The extension that a model belongs to; empty for one of `app/models`."""
    parts = model.__module__.split(".")
    return parts[2] if parts[:2] == ["app", "extensions"] else ""


def fields_of(model: type[SQLModel], problems: list[str]) -> list[Field]:
    """Read the fields of a model that is there; what they cannot be is added to the problems."""
    mapper: Mapper[Any] = sa.inspect(model)
    relations: dict[Any, str] = {
        column.key: each.key
        for each in mapper.relationships
        if each.direction is MANYTOONE
        for column in each.local_columns
    }
    fields = []
    for column in mapper.columns:
        if column.primary_key or column.server_default is not None or column.computed:
            continue
        field = _field_of(column, model, relations)
        if isinstance(field, Field):
            fields.append(field)
            problems += (
                f"{place_of(model)} {field.name}: {why}" for why in refuse_name(field.name)
            )
        else:
            problems.append(f"{place_of(model)} {model.__name__}.{column.key} {field}")
    return fields


def _field_of(
    column: sa.Column[Any], model: type[SQLModel], relations: dict[Any, str]
) -> Field | str:
    """The field that a column is, or why it is none."""
    declared = model.model_fields.get(column.key)
    type_: Any = _plain(column.type)
    name = _kind_of(column)
    if name == "datetime" and not type_.timezone:
        return "is a moment without a time zone; declare sa_type=DateTime(timezone=True)"
    if name == "text" and type_.length:
        name = "str"
    arguments = _arguments(name, type_, rules_of(declared))
    if column.foreign_keys:
        if relations.get(column.key) != column.key.removesuffix("_id"):
            return f"refers to a row; add a Relationship {column.key.removesuffix('_id')} for it"
        name, arguments = "ref", (next(iter(column.foreign_keys)).column.table,)
    try:
        kind = KINDS[name](*map(str, arguments))
    except (KeyError, ValueError):
        return f"has a type that is no kind of field: {column.type!r}"
    if isinstance(kind, Str) and "min_length" not in rules_of(declared):
        kind.allow_empty()
    if isinstance(kind, Enum):
        kind.name_class(type_.enum_class.__name__, type_.enum_class.__module__)
    default = getattr(declared, "default", None)
    uniques = [
        [*each.columns] for each in _table(model).constraints if isinstance(each, UniqueConstraint)
    ]
    return Field(
        column.key.removesuffix("_id") if column.foreign_keys else column.key,
        kind,
        is_nullable=bool(column.nullable),
        is_unique=[column] in uniques,
        default=None if default is PydanticUndefined else getattr(default, "value", default),
    )


def _arguments(name: str, type_: Any, rules: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of the kind `name` that a column's type and rules give."""
    if name == "enum":
        return tuple(each.value for each in type_.enum_class or ())
    if name == "list":
        item = _kind_of(sa.Column(type_.item_type))
        return ("str" if item == "text" else item,)
    if name == "str":
        return (type_.length,)
    if name == "decimal":
        return (type_.precision, type_.scale or 0)
    if name in ("int", "bigint", "float") and {"ge", "le"} <= rules.keys():
        return (rules["ge"], rules["le"])
    return (-(2**15), 2**15 - 1) if isinstance(type_, sa.SmallInteger) else ()


def rules_of(declared: Any) -> dict[str, Any]:
    """The rules of a model's field: `ge`, `max_length`, `pattern` and so on."""
    return {
        name: getattr(each, name)
        for each in getattr(declared, "metadata", ())
        for name in _RULES
        if getattr(each, name, None) is not None
    }


_RULES = (
    *("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern"),
    *("max_digits", "decimal_places"),
)


def own_rules(model: type[SQLModel], fields: list[Field]) -> Iterator[str]:
    """Name the fields of a model with rules that a form made of their kinds would lack."""
    validators = model.__pydantic_decorators__
    if validators.field_validators or validators.model_validators:
        yield "its validators"
    for field in fields:
        declared = model.model_fields.get(field.column)
        rules = rules_of(declared)
        is_made = declared is not None and declared.default_factory is not None
        others = (name for name, value in rules.items() if field.kind.rules.get(name) != value)
        if any(others) or (is_made and not field.kind.empty):
            yield field.column


def unknown_rules(model: type[SQLModel], forms: Iterable[type[SQLModel]]) -> dict[str, str]:
    """The rules of a model's rows and forms that no kind of field has, each with its place."""
    found = {}
    for each in (model, *forms):
        validators = each.__pydantic_decorators__
        for name in (*validators.field_validators, *validators.model_validators):
            found[f"validator {name}"] = place_of(getattr(each, name))
    for rule in _table(model).constraints:
        is_rule = isinstance(rule, CheckConstraint | ExcludeConstraint | UniqueConstraint)
        if is_rule and not (isinstance(rule, UniqueConstraint) and len(rule.columns) == 1):
            found[f"constraint {rule.name}"] = place_of(model)
    return dict(sorted(found.items()))


def _table(model: type[SQLModel]) -> sa.Table:
    table: sa.Table = sa.inspect(model).local_table
    return table


def _kind_of(column: sa.Column[Any]) -> str:
    type_ = _plain(column.type)
    return next((name for kind, name in _KIND_OF.items() if isinstance(type_, kind)), "")


def _plain(type_: Any) -> Any:
    """A type of SQLAlchemy's own, in place of one that decorates it."""
    return getattr(type_, "impl_instance", type_)


_KIND_OF: dict[Any, str] = {
    sa.Enum: "enum",
    sa.String: "text",
    sa.BigInteger: "bigint",
    sa.Integer: "int",
    sa.Float: "float",
    sa.Numeric: "decimal",
    sa.Boolean: "bool",
    sa.Date: "date",
    sa.DateTime: "datetime",
    sa.Time: "time",
    sa.Interval: "duration",
    sa.Uuid: "uuid",
    sa.ARRAY: "list",
    sa.JSON: "json",
}
"""The kind of a column's type; a subclass comes before its base."""


def in_the_way(names: Names, own: type[SQLModel] | None) -> Iterator[str]:
    """Say what has a name that the resource would have, by file and line."""
    for model in (each.class_ for each in SQLModel._sa_registry.mappers):  # noqa: SLF001
        if own is None and {names.model, names.table} & {model.__name__, str(_table(model))}:
            yield (
                f"{place_of(model)}: the model {model.__name__} has the table {_table(model)}. "
                f"Choose another name, or write model={model.__name__} for what it lacks"
            )
    for name, place in registered():
        if own is None and name == f"GET {names.page}":
            yield f"{place}: the route {names.page} is there. Choose another with plural=…"
        if own is None and name == f"tag {names.tag}":
            yield f"{place}: there is a tag {names.tag}. Choose another with plural=…"


@cache
def registered() -> list[tuple[str, str]]:
    """The routes, tags and views of the service, as its source names them, each with its place.

    Importing the application would take longer than all the rest. The names are as in
    `GET /shop/orders`, without `/api`, `tag Orders` and `view Order`.
    """
    found = []
    ours = (BASE_DIR / "kit" / "http").glob("*.py")
    for path in (*ours, *sorted((BASE_DIR / "app").rglob("*.py"))):
        inner = path.relative_to(BASE_DIR)
        if "tests" in inner.parts or "__pycache__" in inner.parts:
            continue
        start = f"/{public_name(inner.parts[2])}" if inner.parts[1] == "extensions" else ""
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        found += [
            (name, f"{inner}:{line}")
            for name, line in _registered(nodes, start)
            if "admin" in inner.parts or not name.startswith("view ")
        ]
    return found


def _registered(nodes: list[ast.AST], start: str) -> Iterator[tuple[str, int]]:
    calls = [each for each in nodes if isinstance(each, ast.Call)]
    prefix = start + "".join(prefix for call in calls for prefix in _texts(call, "prefix")[:1])
    for call in calls:
        yield from ((f"tag {tag}", call.lineno) for tag in _texts(call, "tags"))
        if isinstance(call.func, ast.Attribute) and call.args:
            path = getattr(call.args[0], "value", None)
            yield f"{call.func.attr.upper()} {prefix}{path}", call.lineno
    for each in nodes:
        if isinstance(each, ast.ClassDef):
            yield from (
                (f"view {ast.unparse(keyword.value)}", each.lineno)
                for keyword in each.keywords
                if keyword.arg == "model"
            )


def _texts(call: ast.Call, name: str) -> list[str]:
    """The texts in a call's keyword argument."""
    values = [each.value for each in call.keywords if each.arg == name]
    found = [each for value in values for each in ast.walk(value)]
    return [str(each.value) for each in found if isinstance(each, ast.Constant)]

"""Fields of the admin's forms for every type of column, beside those that SQLAdmin has.

A column that SQLAdmin's fields cannot hold exactly is a text field: text, JSON for lists and
dictionaries, hexadecimal for bytes. What is typed is converted by the model's annotation.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails, to_jsonable_python
from sqladmin.exceptions import NoConverterFound
from sqladmin.fields import DateTimeField, SelectField, TimezoneAwareDateTimeField
from sqladmin.forms import ModelConverter, converts
from sqladmin.helpers import parse_interval
from sqlalchemy import Column
from sqlalchemy import inspect as inspect_model
from sqlalchemy import types as sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.ranges import AbstractMultiRange, AbstractRange
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlmodel.sql import sqltypes
from wtforms import DecimalField, StringField
from wtforms.validators import Optional
from wtforms.widgets import TextArea, TextInput

_Method = TypeVar("_Method", bound=Callable[..., Any])
_converts: Callable[..., Callable[[_Method], _Method]] = converts

_OF_SQLMODEL: tuple[Any, ...] = tuple(
    each
    for each in vars(sqltypes).values()
    if isinstance(each, type) and issubclass(each, sql.TypeDecorator)
)
"""SQLModel's types of texts and of times, which SQLAdmin's fields hold."""

for _type in _OF_SQLMODEL:
    # SQLAlchemy says `object`, of which SQLAdmin cannot make the keys in its addresses.
    _type.python_type = property(lambda self: self.impl_instance.python_type)

DATETIME_FORMATS = [
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
]

_BYTES = (sql.LargeBinary, sql.BINARY, sql.VARBINARY)
_JSON = (sql.JSON, postgresql.HSTORE)
_INTERVALS = (sql.Interval, postgresql.INTERVAL)
_AS_TEXT = (
    *_BYTES,
    *_JSON,
    *_INTERVALS,
    sql.ARRAY,
    sql.Time,
    sql.Uuid,
    postgresql.INET,
    postgresql.CIDR,
    postgresql.MACADDR,
    postgresql.MACADDR8,
)
"""Types whose SQLAdmin field loses a part of some values, or none of whose values are text."""


class ValueField(StringField):
    """A text field for a value of any type.

    Args:
        load: converts text to a value; raises ValueError, whose message is shown.
        show: converts a value to text.
    """

    def __init__(
        self,
        *arguments: Any,
        load: Callable[[str], Any],
        show: Callable[[Any], str],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._load = load
        self._show = show

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return "" if self.data is None else self._show(self.data)

    def process_formdata(self, valuelist: list[str]) -> None:
        """Convert what was typed; nothing typed is None."""
        if valuelist:
            text = valuelist[0].strip()
            self.data = None
            self.data = self._load(text) if text else None


class ColumnConverter(ModelConverter):
    """Makes the fields of a view's form.

    Args:
        model: the view's model.
        names: the attributes in the form.
    """

    def __init__(self, model: type, names: list[str]) -> None:
        super().__init__()
        self._mapper: Mapper[Any] = inspect_model(model)
        self._names = names

    def _prepare_column(
        self, prop: ColumnProperty[Any], form_include_pk: bool, kwargs: dict[str, Any]
    ) -> dict[str, Any] | None:
        column: Any = prop.columns[0]
        if not is_writable(column):
            return None
        include_key = form_include_pk or self._has_to_be_typed(column)
        prepared = super()._prepare_column(prop, include_key, kwargs)
        if prepared is None:
            return None
        default = getattr(column, "default", None)
        if default is not None and not (default.is_scalar or default.is_callable):
            prepared["default"] = None  # an expression that the database evaluates
        return prepared

    def _has_to_be_typed(self, column: Column[Any]) -> bool:
        """Whether a key is neither generated nor chosen in a relationship of the form."""
        if column.foreign_keys:
            relationships = [each for each in self._mapper.relationships if each.key in self._names]
            chosen = {
                local
                for each in relationships
                if each.direction is MANYTOONE
                for local in each.local_columns
            }
            return column not in chosen
        return column.primary_key and not is_filled(column)

    def get_converter(self, prop: Any) -> Any:
        """The converter of an attribute: SQLAdmin's where it holds every value, else a text."""
        if isinstance(prop, RelationshipProperty):
            return super().get_converter(prop)
        type_ = prop.columns[0].type
        is_own = isinstance(type_, sql.TypeDecorator) and not isinstance(type_, _OF_SQLMODEL)
        named = f"{type(type_).__module__}.{type(type_).__name__}" in self._converters
        if isinstance(type_, _AS_TEXT) or (is_own and not named):
            is_tags = isinstance(type_, sql.ARRAY) and _is_list_of_texts(type_, annotation_of(prop))
            return self.conv_array if is_tags else self.conv_value
        try:
            return super().get_converter(prop)
        except NoConverterFound:
            return self.conv_value

    @_converts("NumericCommon", "Numeric")
    def conv_decimal(self, model: type, prop: Any, kwargs: dict[str, Any]) -> Any:
        """Every number with a fraction; as text, because a browser's number cannot be NaN."""
        del model, prop
        kwargs.setdefault("places", None)
        kwargs.setdefault("widget", TextInput())
        return DecimalField(**kwargs)

    @_converts("DateTime")
    def conv_datetime(self, model: type, prop: Any, kwargs: dict[str, Any]) -> Any:
        """A time, shown to the second; a fraction can be typed."""
        del model
        kwargs.setdefault("format", DATETIME_FORMATS)
        has_zone = prop.columns[0].type.timezone
        return (TimezoneAwareDateTimeField if has_zone else DateTimeField)(**kwargs)

    @_converts("Enum")
    def conv_enum(self, model: type, prop: Any, kwargs: dict[str, Any]) -> Any:
        """The members, and none where the column may be empty or the database fills it."""
        del model
        column = prop.columns[0]
        members = {name: name for name in column.type.enums}
        if column.type.enum_class is not None:
            dialect: Any = postgresql.dialect  # which has no types
            result = column.type.result_processor(dialect(), None)
            members = {name: result(name) for name in column.type.enums}

        def member_of(value: Any) -> Any:
            if isinstance(value, Enum):
                return value
            if value in members:
                return members[value]
            raise ValueError

        kwargs.setdefault("allow_blank", column.nullable or column.server_default is not None)
        kwargs.setdefault("choices", [(name, name) for name in members])
        kwargs.setdefault("coerce", member_of)
        kwargs["validators"] = [
            each for each in kwargs["validators"] if not isinstance(each, Optional)
        ]
        return SelectField(**kwargs)

    def conv_value(self, model: type, prop: Any, kwargs: dict[str, Any]) -> Any:
        """Any other column, as text."""
        del model
        column = prop.columns[0]
        load, show = _conversion(column.type, annotation_of(prop))
        if isinstance(column.type, (*_BYTES, *_JSON, sql.ARRAY)):
            kwargs.setdefault("widget", TextArea())
        if isinstance(column.type, _INTERVALS):
            kwargs["render_kw"].setdefault("placeholder", "Like: 1 day 1:25:33.652")
        return ValueField(load=load, show=show, **kwargs)


def is_writable(column: Column[Any]) -> bool:
    """Whether a statement may set the column: not a computed one, nor `Identity(always=True)`."""
    return column.computed is None and not (column.identity and column.identity.always)


def is_filled(column: Column[Any]) -> bool:
    """Whether a row gets a value for the column when none is set."""
    return bool(
        column.nullable
        or column.default is not None
        or column.server_default is not None
        or column.table.autoincrement_column is column
    )


def annotation_of(prop: Any) -> Any:
    """The attribute's type with its rules in a SQLModel; in another model the column's type."""
    field = getattr(prop.parent.class_, "model_fields", {}).get(prop.key)
    if field is not None:
        return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        return prop.columns[0].type.python_type
    except NotImplementedError:
        return str


def uneditable(prop: Any) -> str | None:
    """Why no field can hold the column; None where one can."""
    if len(prop.columns) > 1:
        return "has a column in two tables"
    type_ = prop.columns[0].type
    if isinstance(type_, sql.PickleType):
        return "holds pickled objects"
    if isinstance(type_, sql.TypeDecorator) and _is_only_an_object(annotation_of(prop)):
        return f"is a {type(type_).__name__}, whose values cannot be typed"
    return None


def message_of(error: ErrorDetails) -> str:
    """The message, as the model's author wrote it."""
    return error["msg"].removeprefix("Value error, ")


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def _is_only_an_object(annotation: Any) -> bool:
    try:
        _adapter(annotation).validate_python(object())
    except ValidationError as error:
        return {each["type"] for each in error.errors()} == {"is_instance_of"}
    return False


def _is_list_of_texts(type_: sql.ARRAY[Any], annotation: Any) -> bool:
    is_text = isinstance(type_.item_type, sql.String) and not isinstance(type_.item_type, sql.Enum)
    nested = "list[list" in str(annotation)
    return is_text and type_.dimensions in (None, 1) and not nested


def _conversion(type_: Any, annotation: Any) -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    """How a column's value is made of text, and shown as text."""
    for types, conversion in _CONVERSIONS:
        if isinstance(type_, types):
            return conversion
    adapter = _adapter(annotation)
    if isinstance(type_, sql.ARRAY | postgresql.HSTORE):
        return lambda text: _validated(adapter, _load_json(text)), _show_json
    return lambda text: _load_typed(adapter, text), _show_typed


def _load_bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("\\x"))
    except ValueError:
        raise ValueError("Not hexadecimal. Write bytes as \\x00ff.") from None


def _load_interval(text: str) -> timedelta:
    interval = parse_interval(text)
    if interval is None:
        raise ValueError("Not a duration. Write it as 1 day 1:25:33.652 or P1DT2H.")
    return interval


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"Not valid JSON: {error}") from None


def _show_json(value: Any) -> str:
    return json.dumps(to_jsonable_python(value, fallback=str), ensure_ascii=False)


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ValueError(message_of(error.errors()[0])) from None


def _load_typed(adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_python(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "is_instance_of":
            return text  # the driver and PostgreSQL convert it
        try:
            return adapter.validate_json(text)
        except ValidationError as second:
            invalid_json = second.errors()[0]["type"] == "json_invalid"
            raise ValueError(message_of((error if invalid_json else second).errors()[0])) from None


def _show_ranges(value: Any) -> str:
    return value if isinstance(value, str) else f"{{{','.join(map(str, value))}}}"


def _show_typed(value: Any) -> str:
    plain = to_jsonable_python(value, fallback=str)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


_CONVERSIONS: list[tuple[Any, tuple[Callable[[str], Any], Callable[[Any], str]]]] = [
    (_BYTES, (_load_bytes, lambda value: f"\\x{bytes(value).hex()}")),
    (_INTERVALS, (_load_interval, str)),
    (sql.JSON, (_load_json, _show_json)),
    # PostgreSQL reads ranges itself.
    (AbstractMultiRange, (str, _show_ranges)),
    (AbstractRange, (str, str)),
]
"""Types whose text is not that of pydantic, before those that follow them."""

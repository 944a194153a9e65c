"""The admin's forms: fields for every type of column, and a model's rules for what is typed.

A column that SQLAdmin's fields cannot hold exactly is a text field: text, JSON for lists and
dictionaries, hexadecimal for bytes. What is typed is converted by the model's annotation. What was
not changed is left alone.

`ServiceAdmin` puts `ServiceView` before each registered `ModelView`: SQLAdmin's own class stays the
base of the views that an owner writes.
"""

import functools
import hmac
import json
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from fastapi import HTTPException
from markupsafe import Markup
from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails, from_json, to_jsonable_python
from sqladmin import ModelView
from sqladmin.exceptions import NoConverterFound
from sqladmin.fields import (
    AjaxSelectField,
    AjaxSelectMultipleField,
    DateTimeField,
    Select2TagsField,
    SelectField,
    TimezoneAwareDateTimeField,
)
from sqladmin.filters import AllUniqueStringValuesFilter, ForeignKeyFilter, OperationColumnFilter
from sqladmin.formatters import BASE_FORMATTERS
from sqladmin.forms import WTFORMS_ATTRS_REVERSED, ModelConverter, converts
from sqladmin.helpers import (
    get_column_storage_roots,
    get_object_identifier,
    object_identifier_values,
    parse_interval,
)
from sqlalchemy import JSON, Column, LargeBinary, Select, String
from sqlalchemy import inspect as inspect_model
from sqlalchemy import types as sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import HSTORE, JSONB
from sqlalchemy.dialects.postgresql.ranges import AbstractMultiRange, AbstractRange
from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.sql.elements import Label
from sqlmodel.sql import sqltypes
from starlette.requests import Request
from wtforms import BooleanField, DecimalField, Field, Form, StringField
from wtforms.fields.choices import SelectFieldBase
from wtforms.validators import Optional
from wtforms.widgets import TextArea, TextInput

from kit.admin._lists import (
    TYPE_FORMATTERS,
    TYPE_FORMATTERS_OF_DETAILS,
    BatchedExports,
    BoundedCounts,
)
from kit.settings import StartupError, settings

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
    f"%Y-%m-%d{between}{clock}"
    for clock in ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M")
    for between in (" ", "T")
]

MALFORMED_KEY = (ValueError, TypeError, ArithmeticError, LookupError)
"""What SQLAdmin raises for a text that is no key of a model."""

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
    try:
        interval = parse_interval(text)
    except OverflowError:
        raise ValueError("Longer than a duration can be.") from None
    if interval is None:
        raise ValueError("Not a duration. Write it as 1 day 1:25:33.652 or P1DT2H.")
    return interval


def _load_json(text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
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


class Changes(dict[str, Any]):
    """The values of a form, and which of them it does not change.

    Args:
        changed: values that differ from what the form showed.
        unchanged: the others. Those of a row are among the values, as the row has them; those of a
            new row, which are left to the column's default, can only be read by name.
        is_edit: whether the form is of a row.
        chosen: foreign keys of the rows that are chosen in relationships.
    """

    def __init__(
        self,
        changed: dict[str, Any],
        unchanged: dict[str, Any],
        *,
        is_edit: bool,
        chosen: dict[str, Any],
    ) -> None:
        super().__init__(changed | unchanged if is_edit else changed)
        self._unchanged = unchanged
        self.chosen = chosen

    def __missing__(self, name: str) -> Any:
        return self._unchanged[name]

    def copy(self) -> "Changes":
        """A copy that can be changed on its own."""
        return Changes(self, self._unchanged, is_edit=False, chosen=self.chosen)

    def leave_unchanged(self) -> None:
        """Remove what a view's own hooks have not changed either, so that it is not written."""
        for name, value in self._unchanged.items():
            if name in self and self[name] is value:
                del self[name]


CHANGED_MEANWHILE = (
    "Somebody has changed this since you opened the form. Open it anew to see how, or save again "
    "to write yours over it."
)


class ModelForm(Form):
    """Validates what was changed by the model's rules.

    What was changed differs from what the browser has shown, of which the form sends a mark for
    each field: so a form does not write back what somebody else has changed meanwhile.

    SQLAdmin makes a class for each request: it first shows the row, then the form that was sent.
    """

    model: ClassVar[type]
    shown: ClassVar["ModelForm | None"] = None
    is_edit: ClassVar[bool] = False
    marks_name: ClassVar[str] = "_shown"

    def __init__(self, formdata: Any = None, **options: Any) -> None:
        self._unchanged: set[str] = set()
        self._validated: dict[str, Any] = {}
        super().__init__(formdata, **options)
        if formdata is None:
            type(self).shown = self
            type(self).is_edit = "data" in options
            self._marks = {name: _mark(field) for name, field in self._fields.items()}
        else:
            self._marks = _load_marks(formdata.get(self.marks_name))

    def hidden_tag(self) -> Markup:
        """The hidden fields, by the name by which SQLAdmin's template looks for them."""
        hidden = [field() for field in self if getattr(field.widget, "input_type", "") == "hidden"]
        if self.is_edit:
            tag = Markup('<input type="hidden" name="{}" value="{}">')
            hidden.append(tag.format(self.marks_name, json.dumps(self._marks)))
        return Markup().join(hidden)

    @property
    def data(self) -> dict[str, Any]:
        """The values of the fields, as they are to be stored."""
        values = super().data | self._validated
        unchanged = {name: values.pop(name) for name in self._unchanged}
        for name in unchanged.keys() & self._columns.keys() if self.is_edit else ():
            unchanged[name] = type(self).shown[name].object_data  # type: ignore[index]
        return Changes(values, unchanged, is_edit=self.is_edit, chosen=self._chosen_keys())

    @property
    def _columns(self) -> dict[str, Column[Any]]:
        """The columns that the form has fields for, by the fields' names."""
        columns: Any = inspect_model(self.model).columns
        return {name: columns[key] for name in self._fields if (key := _attribute(name)) in columns}

    def validate(self, extra_validators: Any = None) -> bool:
        """Check the fields, then the model's rules for those that differ from what was shown."""
        super().validate(extra_validators)
        shown = type(self).shown or type(self)()
        columns = self._columns
        for name, field in self._fields.items():
            column = columns.get(name)
            is_empty = field.data is None or field.data == ""
            declared = getattr(self.model, "model_fields", {}).get(_attribute(name))
            takes_none = type(None) in get_args(getattr(declared, "annotation", None))
            if is_empty and takes_none and column is not None and column.nullable:
                field.data = None  # as SQLAdmin stores it
            sent, now = _mark(field, is_sent=True), shown._marks[name]  # noqa: SLF001
            was = self._marks.get(name) or now
            if sent is not None and sent in (was, now):
                # A new row's empty field is left to the default, which may be the database's.
                left_out = column is not None and is_empty and is_filled(column)
                if self.is_edit or left_out:
                    self._unchanged.add(name)
                    field.errors = []
            elif is_empty and not (
                column is None or column.nullable or isinstance(column.type, String)
            ):
                field.errors = field.errors or [field.gettext("This field is required.")]
            elif self.is_edit and was != now:
                field.errors = [*field.errors, CHANGED_MEANWHILE]
                self._marks[name] = now
        if issubclass(self.model, BaseModel):
            self._hold_rules(self.model, shown)
        return not self.errors

    def _hold_rules(self, model: type[BaseModel], shown: "ModelForm") -> None:
        changed = [name for name in self._fields if name not in self._unchanged]
        before = {name: each.object_data for name, each in shown._fields.items() if self.is_edit}
        values = before | {name: self._fields[name].data for name in changed}
        values = {_attribute(name): each for name, each in values.items()}
        values = {key: each for key, each in values.items() if key in model.model_fields}
        fields = {_attribute(name): self._fields[name] for name in changed}
        try:
            validated = model.model_validate(values | self._chosen_keys())
        except ValidationError as error:
            for each in error.errors():
                # An error of the model as a whole is shown at the first field.
                key = each["loc"][0] if each["loc"] else next(iter(fields), None)
                field = fields.get(str(key))
                # PostgreSQL converts text of a type that pydantic does not know, such as a range.
                is_object = each["type"] in ("is_instance_of", "dataclass_type")
                if field is not None and not field.errors and not is_object:
                    field.errors = [message_of(each)]
        else:
            written = self._columns.keys() & set(changed)
            self._validated = {name: getattr(validated, _attribute(name)) for name in written}

    def _chosen_keys(self) -> dict[str, Any]:
        """Foreign keys of the rows that are chosen in relationships."""
        keys: dict[str, Any] = {}
        mapper: Mapper[Any] = inspect_model(self.model)
        for relationship in mapper.relationships:
            field = self._fields.get(relationship.key)
            if relationship.direction is MANYTOONE and field and isinstance(field.data, str):
                target = relationship.mapper
                try:
                    parts = object_identifier_values(field.data, target.class_)
                except MALFORMED_KEY:
                    field.errors = [field.gettext("Not a valid choice")]
                    continue
                by_column = dict(zip(target.primary_key, parts, strict=True))
                for local, remote in relationship.local_remote_pairs or ():
                    keys[mapper.get_property_by_column(local).key] = by_column.get(remote)
        return keys


class ServiceView(BoundedCounts):
    """What the kit adds to a view: its forms, and clear answers to malformed addresses."""

    def __init__(self) -> None:
        super().__init__()
        if self.form_converter is ModelConverter:
            names = self._form_prop_names
            self.form_converter = functools.partial(ColumnConverter, self.model, names)  # type: ignore[misc,assignment]

    async def scaffold_form(self, rules: list[str] | None = None) -> type[Form]:
        """The form's class, for one request."""
        form = await super().scaffold_form(rules)
        made: type[Form] = type(form.__name__, (ModelForm, form), {"model": self.model})
        return made

    async def on_model_change(
        self, data: dict[str, Any], model: Any, is_created: bool, request: Request
    ) -> None:
        """Call the view's own hook with all values, and write those that differ from the row's.

        Raises:
            ValueError: when they break a rule of the model as a whole, which the form could not
                check without a column that it does not have.
        """
        is_partial = isinstance(data, Changes) and _lacks_values(data, self.model)
        await super().on_model_change(data, model, is_created, request)
        if is_partial and isinstance(data, Changes):
            _hold_rules_of_the_whole(data, model)
        is_copy = is_created and "pk" in request.path_params  # saved as new, with all values
        if isinstance(data, Changes) and not is_copy:
            data.leave_unchanged()

    async def list(self, request: Request) -> Any:
        """The list's rows.

        Raises:
            HTTPException: 400 when a search or filter does not fit a column.
        """
        for each in self.get_filters():
            operation = request.query_params.get(f"{each.parameter_name}_op")
            if operation and isinstance(each, OperationColumnFilter):
                known = dict(each.get_operation_options_for_model(self.model))
                if operation not in known:  # SQLAdmin would look for a text in a number
                    message = f"The filter {each.parameter_name} takes {', '.join(known)}."
                    raise HTTPException(HTTPStatus.BAD_REQUEST, message)
        try:
            return await super().list(request)
        except (StatementError, ValueError) as error:
            names = [each.parameter_name for each in self.get_filters()]
            if isinstance(error, StatementError):
                is_refused = _is_about_a_value(error)
            else:  # of a filter, such as ForeignKeyFilter, that converts what the address says
                is_refused = any(map(request.query_params.get, names))
            if not is_refused:
                raise
            message = "The search or a filter does not fit its column."
            raise HTTPException(HTTPStatus.BAD_REQUEST, message) from error

    async def get_object_filepath(self, identifier: str, column_name: str) -> Path:
        """The file of a row, of a column of files: SQLAdmin takes any text for one, as `.env`."""
        column = self._mapper.columns.get(column_name)
        is_of_files = column is not None and get_column_storage_roots(column)
        if not is_of_files or await self.get_object_for_delete(identifier) is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return await super().get_object_filepath(identifier, column_name)

    def _stmt_by_identifier(self, identifier: str) -> Select[Any]:
        try:
            return super()._stmt_by_identifier(identifier)
        except MALFORMED_KEY as error:
            raise HTTPException(HTTPStatus.NOT_FOUND) from error

    async def _get_object_by_pk(self, stmt: Select[Any]) -> Any:
        try:
            return await super()._get_object_by_pk(stmt)
        except StatementError as error:
            if _is_about_a_value(error):
                raise HTTPException(HTTPStatus.NOT_FOUND) from error
            raise


def _lacks_values(data: Changes, model: type) -> bool:
    """Whether a form had no field for some value that its model cannot be checked without."""
    fields = getattr(model, "model_fields", {}).items()
    return any(field.is_required() and key not in data.chosen | data for key, field in fields)


def _hold_rules_of_the_whole(data: Changes, row: BaseModel) -> None:
    """Check the rules of a model as a whole, with the values that the form did not have."""
    values = vars(row) | data.chosen | data
    fields = type(row).model_fields
    try:
        type(row).model_validate({key: values[key] for key in values.keys() & fields})
    except ValidationError as error:
        for each in error.errors():
            if not each["loc"]:
                raise ValueError(message_of(each)) from None


def service_view(view: type[ModelView]) -> type[ModelView]:
    """The view's class with what the kit adds to it."""
    names: dict[str, Any] = {"__module__": view.__module__, "__doc__": view.__doc__}
    if view.column_type_formatters == view.column_type_formatters_detail == BASE_FORMATTERS:
        names["column_type_formatters"] = TYPE_FORMATTERS
        names["column_type_formatters_detail"] = TYPE_FORMATTERS_OF_DETAILS
    hooks = ("get_model_objects", "export_data")
    is_plain = all(getattr(view, name) is getattr(ModelView, name) for name in hooks)
    bases = (BatchedExports, ServiceView, view) if is_plain else (ServiceView, view)
    made: type[ModelView] = type(view.__name__, bases, names)
    return made


def refuse_unknown_names(view: ModelView) -> None:
    """Refuse a view that names what its model does not have: SQLAdmin only notices in a request.

    Raises:
        StartupError: names the view, the option and the name.
    """
    computed = {*view.column_formatters, *view.column_formatters_detail}
    named = {
        option: getattr(view, option, ())
        for option in dir(view)
        if re.fullmatch(r"(column|form)_(\w+_)?(list|columns)|form_overrides", option)
    }
    order = view.column_default_sort
    named["column_default_sort"] = [
        each[0] if isinstance(each, tuple) else each
        for each in (order if isinstance(order, list) else [order])
    ]
    for option, names in named.items():
        if not isinstance(names, str):  # "__all__"
            known = computed if option.endswith("_list") else ()
            _refuse_unknown(view, option, [each for each in names if each not in known])
    for each in view.get_filters():
        # A filter of the owner's own need not name a column.
        if type(each).get_filtered_query.__module__ in ("sqladmin.filters", "kit.admin._lists"):
            key = "foreign_key" if isinstance(each, ForeignKeyFilter) else "column"
            _refuse_unknown(view, "column_filters", [getattr(each, key)])
        if isinstance(each, ForeignKeyFilter) and each.foreign_model:
            shown = [each.foreign_display_field]
            _refuse_unknown(view, "column_filters", shown, each.foreign_model)


def _refuse_unknown(view: ModelView, option: str, names: Iterable[Any], of: Any = None) -> None:
    for name in names:
        model = of or view.model
        for part in name.split(".") if isinstance(name, str) else ():
            mapper: Mapper[Any] = inspect_model(model)
            if not hasattr(model, part):
                raise StartupError(
                    f"the admin view {type(view).__name__} has {name!r} in {option}, but "
                    f"{model.__name__} has no {part!r}. Write one of "
                    f"{', '.join(mapper.attrs.keys())}, or a property of the class."
                )
            prop = mapper.attrs.get(part)
            if not isinstance(prop, RelationshipProperty):
                break  # what follows is a value's own
            model = prop.mapper.class_


def refuse_unusable_columns(view: ModelView) -> None:
    """Refuse a view whose form, order or filters a column cannot serve.

    Raises:
        StartupError: names the view, the column and the remedy.
    """
    mapper: Mapper[Any] = inspect_model(view.model)
    name = type(view).__name__
    if (view.can_create or view.can_edit) and view.form is None:
        for key in view._form_prop_names:  # noqa: SLF001
            prop = mapper.attrs.get(key)
            if not isinstance(prop, ColumnProperty) or isinstance(prop.expression, Label):
                continue
            reason = None if key in view._form_overrides else uneditable(prop)  # noqa: SLF001
            if reason:
                raise StartupError(
                    f"the form of the admin view {name} cannot hold {key}: {view.model.__name__}."
                    f"{key} {reason}. Add {key!r} to form_excluded_columns, or a field for it to "
                    "form_overrides."
                )
    compared = {
        "column_sortable_list": view._sort_fields,  # noqa: SLF001
        "column_filters": [
            each.column if isinstance(each.column, str) else each.column.key
            for each in view.get_filters()
            if isinstance(each, (OperationColumnFilter, AllUniqueStringValuesFilter))
        ],
    }
    for option, keys in compared.items():
        for key in keys:
            type_ = getattr(mapper.columns.get(key), "type", None)
            is_json = isinstance(type_, JSON) and not isinstance(type_, JSONB)
            if is_json or (option == "column_filters" and isinstance(type_, (LargeBinary, HSTORE))):
                raise StartupError(
                    f"the admin view {name} has {key} in {option}, whose values cannot be "
                    f"compared. Leave {key} out{', or make it JSONB' if is_json else ''}."
                )


def _is_about_a_value(error: StatementError) -> bool:
    """Whether a value could not be converted to its column's type, by SQLAlchemy or PostgreSQL."""
    return isinstance(error, DataError) or not isinstance(error, DBAPIError)


def _attribute(field_name: str) -> str:
    """The model's attribute of a field, whose name WTForms may not allow for a field."""
    return WTFORMS_ATTRS_REVERSED.get(field_name, field_name)


def _mark(field: Any, *, is_sent: bool = False) -> str | None:
    """A mark of what a browser sends of a field that it shows, or has sent; None if it is unknown.

    Keyed, since a field may hide its value.
    """
    value = _sent_value(field) if is_sent else _shown_value(field)
    if value is None:
        return None
    content = repr(value).encode(errors="backslashreplace")
    return hmac.digest(settings.secret_key.encode(), content, "sha256").hex()[:16]


def _load_marks(sent: Any) -> dict[str, Any]:
    try:
        marks = from_json(sent)
    except (TypeError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}


def _shown_value(field: Any) -> Any:
    if isinstance(field, AjaxSelectField):
        return [str(get_object_identifier(field.data))] if field.data is not None else []
    if isinstance(field, AjaxSelectMultipleField):
        return sorted(str(get_object_identifier(each)) for each in field.data)
    if isinstance(field, Select2TagsField):
        return [str(each) for each in field.data or []]
    if isinstance(field, BooleanField):
        return bool(field.data)
    if isinstance(field, SelectFieldBase):
        return sorted({str(value) for value, _, is_chosen, *_ in field.iter_choices() if is_chosen})
    text = field._value() if hasattr(field, "_value") else None  # noqa: SLF001
    return None if text is None else _as_sent(str(text), field)


def _sent_value(field: Any) -> Any:
    raw = [each for each in field.raw_data or [] if isinstance(each, str)]
    if isinstance(field, AjaxSelectField):
        return raw if raw != ["__None"] else []
    if isinstance(field, AjaxSelectMultipleField):
        return sorted({part for each in raw for part in each.split(field.separator)})
    if isinstance(field, Select2TagsField):
        return raw
    if isinstance(field, BooleanField):
        return bool(field.data)
    if isinstance(field, SelectFieldBase):
        return sorted(set(raw))
    return _as_sent(raw[0], field) if hasattr(field, "_value") and len(raw) == 1 else None


def _as_sent(text: str, field: Field) -> str:
    """A text as browsers send it: one line in an input, no first empty line in a text area."""
    lines = re.sub(r"\r\n?", "\n", text)
    is_area = isinstance(field.widget, TextArea)
    return lines.removeprefix("\n") if is_area else lines.replace("\n", "")

"""The admin's forms hold a model's rules, and leave alone what was not changed.

`ServiceAdmin` puts `ServiceView` before each registered `ModelView`: SQLAdmin's own class stays the
base of the views that an owner writes.
"""

import functools
import re
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import HTTPException
from pydantic import BaseModel, ValidationError
from sqladmin import ModelView
from sqladmin.fields import AjaxSelectField, AjaxSelectMultipleField, Select2TagsField
from sqladmin.filters import AllUniqueStringValuesFilter, OperationColumnFilter
from sqladmin.formatters import BASE_FORMATTERS
from sqladmin.forms import WTFORMS_ATTRS_REVERSED, ModelConverter
from sqladmin.helpers import object_identifier_values
from sqlalchemy import JSON, Column, LargeBinary, Select, String
from sqlalchemy import inspect as inspect_model
from sqlalchemy.dialects.postgresql import HSTORE, JSONB
from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.orm import ColumnProperty, Mapper
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.sql.elements import Label
from starlette.requests import Request
from wtforms import BooleanField, Field, Form
from wtforms.fields.choices import SelectFieldBase
from wtforms.widgets import TextArea

from kit.admin._columns import ColumnConverter, is_filled, message_of, uneditable
from kit.admin._lists import BatchedExports, BoundedCounts
from kit.admin._times import TYPE_FORMATTERS, TYPE_FORMATTERS_OF_DETAILS
from kit.settings import StartupError


class Changes(dict[str, Any]):
    """The values of a form, and which of them it does not change.

    Args:
        changed: values that differ from what the form showed.
        unchanged: the others. Those of a row are among the values, as the row has them; those of a
            new row, which are left to the column's default, can only be read by name.
        is_edit: whether the form is of a row.
    """

    def __init__(
        self, changed: dict[str, Any], unchanged: dict[str, Any], *, is_edit: bool
    ) -> None:
        super().__init__(changed | unchanged if is_edit else changed)
        self._unchanged = unchanged

    def __missing__(self, name: str) -> Any:
        return self._unchanged[name]

    def copy(self) -> "Changes":
        """A copy that can be changed on its own."""
        return Changes(self, self._unchanged, is_edit=False)

    def leave_unchanged(self) -> None:
        """Remove what a view's own hooks have not changed either, so that it is not written."""
        for name, value in self._unchanged.items():
            if name in self and self[name] is value:
                del self[name]


class ModelForm(Form):
    """Validates what was changed by the model's rules.

    SQLAdmin makes a class for each request: it first shows the row, then the form that was sent.
    """

    model: ClassVar[type]
    shown: ClassVar["ModelForm | None"] = None
    is_edit: ClassVar[bool] = False

    def __init__(self, formdata: Any = None, **options: Any) -> None:
        self._unchanged: set[str] = set()
        self._validated: dict[str, Any] = {}
        super().__init__(formdata, **options)
        if formdata is None:
            type(self).shown = self
            type(self).is_edit = "data" in options

    @property
    def data(self) -> dict[str, Any]:
        """The values of the fields, as they are to be stored."""
        values = super().data | self._validated
        unchanged = {name: values.pop(name) for name in self._unchanged}
        for name in unchanged.keys() & self._columns.keys() if self.is_edit else ():
            unchanged[name] = type(self).shown[name].object_data  # type: ignore[index]
        return Changes(values, unchanged, is_edit=self.is_edit)

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
            if _is_as_shown(field, shown[name]):
                # A new row's empty field is left to the default, which may be the database's.
                left_out = column is not None and is_empty and is_filled(column)
                if self.is_edit or left_out:
                    self._unchanged.add(name)
                    field.errors = []
            elif is_empty and column is not None and not _may_be_empty(column):
                field.errors = field.errors or [field.gettext("This field is required.")]
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
            chosen = (
                self._fields[relationship.key].data if relationship.key in self._fields else None
            )
            if relationship.direction is MANYTOONE and isinstance(chosen, str):
                target = relationship.mapper
                parts = object_identifier_values(chosen, target.class_)
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
        """Call the view's own hook with all values, and write those that differ from the row's."""
        await super().on_model_change(data, model, is_created, request)
        if isinstance(data, Changes):
            data.leave_unchanged()

    async def list(self, request: Request) -> Any:
        """The list's rows.

        Raises:
            HTTPException: 400 when a search or filter does not fit a column.
        """
        try:
            return await super().list(request)
        except StatementError as error:
            if _is_about_a_value(error):
                raise HTTPException(
                    HTTPStatus.BAD_REQUEST, "The search or a filter does not fit its column."
                ) from error
            raise

    def _stmt_by_identifier(self, identifier: str) -> Select[Any]:
        try:
            return super()._stmt_by_identifier(identifier)
        except (ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise HTTPException(HTTPStatus.NOT_FOUND) from error

    async def _get_object_by_pk(self, stmt: Select[Any]) -> Any:
        try:
            return await super()._get_object_by_pk(stmt)
        except StatementError as error:
            if _is_about_a_value(error):
                raise HTTPException(HTTPStatus.NOT_FOUND) from error
            raise


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


def _may_be_empty(column: Column[Any]) -> bool:
    return column.nullable or isinstance(column.type, String)


def _is_as_shown(sent: Field, shown: Any) -> bool:
    """Whether a browser that shows the second field, untouched, sends the first."""
    raw = [each for each in sent.raw_data or [] if isinstance(each, str)]
    if isinstance(sent, (AjaxSelectField, AjaxSelectMultipleField)):
        return False
    if isinstance(sent, Select2TagsField):
        return raw == [str(each) for each in shown.data or []]
    if isinstance(sent, BooleanField):
        return bool(sent.data) == bool(shown.data)
    if isinstance(sent, SelectFieldBase):
        chosen = {str(value) for value, _, is_chosen, *_ in shown.iter_choices() if is_chosen}
        return set(raw) == chosen
    if not hasattr(shown, "_value") or len(raw) != 1:
        return False
    is_area = isinstance(sent.widget, TextArea)
    return _as_sent(raw[0], is_area) == _as_sent(str(shown._value()), is_area)  # noqa: SLF001


def _as_sent(text: str, is_area: bool) -> str:
    """A text as browsers send it: one line in an input, no first empty line in a text area."""
    lines = re.sub(r"\r\n?", "\n", text)
    return lines.removeprefix("\n") if is_area else lines.replace("\n", "")

"""Lists of rows in pages: filters and order from a query model, and a cursor to continue with.

```python
class InvoiceQuery(ListQuery, model=Invoice):
    sort: Literal["id", "-id", "due", "-due"] = "id"
    status: InvoiceStatus | None = None
    due__ge: date | None = None


@router.get("/invoices")
async def list_invoices(
    session: ReadSessionDep, query: Annotated[InvoiceQuery, Query()]
) -> Page[InvoiceOutput]:
    return await read_page(session, select(Invoice), query, InvoiceOutput)
```

A page begins after the values of the last row before it, not at an offset: rows that come and go
meanwhile neither hide nor repeat others, and the last page costs no more than the first
(https://use-the-index-luke.com/no-offset).
"""

import operator
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from http import HTTPStatus
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin
from uuid import UUID

from fastapi.dependencies.models import Dependant
from itsdangerous import BadData, URLSafeSerializer
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import to_jsonable_python
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Numeric,
    SmallInteger,
    TypeDecorator,
    and_,
    any_,
    literal,
    true,
    tuple_,
)
from sqlmodel import AutoString
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar
from starlette.requests import HTTPConnection

from kit.errors import Problem
from kit.settings import settings

Row = TypeVar("Row")
Output = TypeVar("Output", bound=BaseModel)

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "contains": lambda column, text: column.ilike("%" + re.sub(r"[\\%_]", r"\\\g<0>", text) + "%"),
}
_NUMBER = re.compile(r"[-+]?[\d.]+")
_VALUES = (bool, int, float, Decimal, str, date, time, timedelta, UUID, Enum)
"""Types of values that PostgreSQL can order, and that come back from a cursor unchanged."""


class Page(BaseModel, Generic[Output]):
    """A part of a list, and where it continues."""

    items: list[Output]
    next: str | None = Field(
        description="Cursor of the next page, to be sent as `after`; null on the last page."
    )


class ListQuery(BaseModel):
    """What a caller may choose of a list: the page, and in a subclass filters and the order.

    `class InvoiceQuery(ListQuery, model=Invoice)` names the table. A field is a filter by the
    column of its name: equal to the value, or to one of a list. With `__gt`, `__ge`, `__lt` or
    `__le` after the name it compares; with `__contains` it finds a part of a text, in upper or
    lower case. A filter that is None or empty is off. A field with `Field(exclude=True)` is none,
    and left to the endpoint.

    The field `sort` is a `Literal` of columns, each also with `-` before it for the reverse; its
    default is the order where none is asked for, and without the field it is the primary key's.
    Equal rows follow in the order of the primary key; rows without a value come last, both ways.
    An index of the column and the primary key, `Index(None, "due", "id")`, serves both directions.

    Raises:
        TypeError: at import, when a field names no column or one that it cannot filter or sort by.
    """

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(None, description="`next` of the page before; none for the first.")
    limit: int = Field(50, ge=1, le=200, description="Most items of the page.")

    _listing: ClassVar["_Listing | None"] = None

    def __init_subclass__(cls, *, model: Any = None, **options: Any) -> None:
        super().__init_subclass__(**options)

    @field_validator("*", mode="wrap")
    @classmethod
    def _refuse_timestamps(cls, sent: Any, read: ValidatorFunctionWrapHandler) -> Any:
        """Refuse `0` as a date: pydantic counts seconds since 1970, the schema says `date`."""
        value = read(sent)
        for text, each in zip(_listed(sent), _listed(value), strict=False):
            if isinstance(each, date) and _NUMBER.fullmatch(str(text)):
                raise ValueError("write it as 2026-01-31, with a time after a T")
        return value

    @classmethod
    def __pydantic_init_subclass__(cls, *, model: Any = None, **_: Any) -> None:
        named = model or getattr(cls._listing, "model", None)
        cls._listing = _Listing(named, cls) if named else None


async def refuse_repeated(connection: HTTPConnection) -> None:
    """Refuse a parameter of a list that is sent several times and takes one value; a dependency.

    FastAPI would take the last one.

    Raises:
        Problem: 422, with the parameter.
    """
    sent = connection.query_params
    if len(sent) == len(sent.multi_items()):
        return
    for query in list_queries(connection.scope["route"].dependant):
        for name in sent.keys() & query.model_fields.keys():
            kind = query.model_fields[name].annotation
            takes_several = any(get_origin(each) is list for each in (kind, *get_args(kind)))
            if len(sent.getlist(name)) > 1 and not takes_several:
                raise _refusal(name, "Send it once.")


def list_queries(dependant: Dependant) -> Iterator[type[ListQuery]]:
    """The queries of lists that an endpoint and its dependencies take."""
    for parameter in dependant.query_params:
        query = parameter.field_info.annotation
        if isinstance(query, type) and issubclass(query, ListQuery):
            yield query
    for each in dependant.dependencies:
        yield from list_queries(each)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class _Listing:
    """What the fields of a query mean in SQL."""

    def __init__(self, model: Any, query: type[ListQuery]) -> None:
        self.model, self.query = model, f"{query.__module__}.{query.__qualname__}"
        mapper = model.__mapper__
        self.key = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        self.orders = {"": self._order("", "")}
        self.filters: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {}
        bounds = query.model_fields["limit"].metadata
        if not all(any(hasattr(each, end) for each in bounds) for end in ("ge", "le")):
            raise self._mistake("limit", "give it bounds, as `Field(20, ge=1, le=100)`")
        for name, field in query.model_fields.items():
            if name in ListQuery.model_fields or field.exclude:
                continue
            if name != "sort":
                self.filters[name] = self._filter(name)
            elif get_origin(field.annotation) is Literal:
                choices = get_args(field.annotation)
                self.orders |= {choice: self._order(choice, name) for choice in choices}
            else:
                raise self._mistake(name, 'write its type as `Literal["id", "-id"]`')

    def _filter(self, field: str) -> tuple[str, Callable[[Any, Any], Any]]:
        name, _, comparison = field.rpartition("__")
        if field in self.model.__mapper__.columns or comparison not in _COMPARISONS:
            name, comparison = field, ""
        kind = self._type(name, field)
        if comparison == "contains" and str not in (kind, *get_args(kind)):
            raise self._mistake(field, f"{name} is no text, which could contain another")
        if comparison and kind is bool:
            raise self._mistake(field, f"{name} is true or false, and no more than either")
        return name, _COMPARISONS.get(comparison, operator.eq)

    def _order(self, sort: str, field: str) -> dict[str, TypeAdapter[Any]]:
        names = dict.fromkeys([sort.removeprefix("-") or self.key[0], *self.key])
        return {name: TypeAdapter(self._type(name, field) | None) for name in names}

    def _type(self, name: str, field: str) -> Any:
        """The type of a column's values, if PostgreSQL and a cursor can keep their order."""
        table, column = self.model.__table__.name, self.model.__mapper__.columns.get(name)
        if column is None:
            raise self._mistake(field, f"the table {table} has no column {name}")
        fields, type_ = getattr(self.model, "model_fields", {}), column.type
        if isinstance(type_, AutoString):
            return str
        if isinstance(type_, TypeDecorator) and name in fields:
            return fields[name].annotation
        kind = getattr(type_, "impl_instance", type_).python_type
        is_rounded = kind is float and isinstance(type_, Numeric)
        if issubclass(kind, _VALUES) and not is_rounded:
            return kind
        raise self._mistake(
            field, f"{table}.{name}, {type_!r}, can be neither compared nor sorted by"
        )

    def _mistake(self, field: str, reason: str) -> TypeError:
        remedy = "" if field in ("sort", "limit") else "; `Field(exclude=True)` if it is no filter"
        return TypeError(f"{self.query}.{field}: {reason}{remedy}")

    def conditions(self, query: ListQuery) -> Iterator[ColumnElement[bool]]:
        """The conditions of the filters that a caller has set."""
        for field, (name, compare) in self.filters.items():
            value, column = getattr(query, field), getattr(self.model, name)
            if isinstance(value, list):
                some = [each for each in value if _literal(each, column, field) is each]
                if value:  # one parameter, where `in_` has thousands
                    yield column == any_(literal(some, ARRAY(column.type)))
            elif value is not None:
                yield compare(column, _literal(value, column, field))


def _literal(value: Any, column: Any, field: str) -> Any:
    """A value to compare a column with: one that its integers cannot reach is a `numeric`."""
    kind = column.type
    if isinstance(value, str) and "\0" in value:
        raise _refusal(field, "No text holds the character NUL.")
    if isinstance(value, datetime | time):
        has_zone = value.tzinfo is not None
        if has_zone != getattr(kind, "timezone", has_zone):
            raise _refusal(field, f"Send it {'without' if has_zone else 'with'} a time zone.")
    if not isinstance(value, int) or not isinstance(kind, Integer):
        return value
    end = 2 ** (
        15 if isinstance(kind, SmallInteger) else 63 if isinstance(kind, BigInteger) else 31
    )
    return value if -end <= value < end else literal(value, Numeric())


def _refusal(field: str, reason: str) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The request does not have the expected form.",
        errors=[{"in": "query", "pointer": f"/{field}", "detail": reason, "code": "value_error"}],
    )


async def read_page(
    session: AsyncSession,
    statement: SelectOfScalar[Row],
    query: ListQuery,
    output: type[Output],
) -> Page[Output]:
    """Read the page of a list that a caller asks for.

    One statement reads a row more than the page holds. In the order of a nullable column a second
    one continues where the rows without a value begin.

    Args:
        session: `ReadSessionDep`, or another one.
        statement: `select(Model)`, with conditions, joins to one row and loader options, such as
            `selectinload`, of your own.
        query: what the caller chose.
        output: the model of an item, made from each row.

    Raises:
        Problem: 422, when `after` is no cursor of this list in this order.
        TypeError: when the query's class names no model.
        ValueError: when the statement selects another model, or has an order or limit.
    """
    listing = query._listing  # noqa: SLF001
    if listing is None:
        raise TypeError(f"name the table: class {type(query).__name__}(ListQuery, model=…)")
    if statement.column_descriptions[0]["expr"] is not listing.model:
        raise ValueError(f"pass `select({listing.model.__name__})`, the model of {listing.query}")
    if statement._order_by_clauses or statement._has_row_limiting_clause:  # noqa: SLF001
        raise ValueError("leave out order_by, limit and offset: the query has them")
    sort: str = getattr(query, "sort", "")
    types = listing.orders[sort]
    columns = [getattr(listing.model, name) for name in types]
    cursors = URLSafeSerializer(settings.secret_key, salt=f"{listing.model.__table__.name} {sort}")
    place = None if query.after is None else _read(cursors, query.after, types)
    is_reverse = sort.startswith("-")
    statement = statement.where(*listing.conditions(query))
    statement = statement.order_by(*(each.desc() if is_reverse else each for each in columns))
    rows: list[Row] = []
    for part in _parts(columns, place, is_reverse, columns[0].nullable):
        if (missing := query.limit + 1 - len(rows)) > 0:
            rows += await session.exec(statement.where(part).limit(missing))
    more = len(rows) > query.limit
    last = [getattr(rows[query.limit - 1], name) for name in types] if more else None
    items = [
        row if isinstance(row, output) else output.model_validate(row, from_attributes=True)
        for row in rows[: query.limit]
    ]
    page: type[Page[Output]] = Page[output]  # type: ignore[valid-type]
    return page(items=items, next=cursors.dumps(to_jsonable_python(last)) if more else None)


def _read(cursors: URLSafeSerializer, cursor: str, types: dict[str, TypeAdapter[Any]]) -> list[Any]:
    """The values of the last row before the page."""
    try:
        values = cursors.loads(cursor)
        return [each.validate_python(v) for v, each in zip(values, types.values(), strict=True)]
    except (BadData, TypeError, ValueError):
        raise _refusal(
            "after", "Send `next` of a page of this list in this order, or leave it out."
        ) from None


def _parts(
    columns: list[Any], place: list[Any] | None, is_reverse: bool, is_nullable: bool
) -> Iterator[ColumnElement[bool]]:
    """The conditions of the rows after a place: those with a value in the first column, and others.

    Apart, each is a range of one index: PostgreSQL would search `… OR due IS NULL` from the start.
    """
    first = columns[0]

    def after(start: int) -> ColumnElement[bool]:
        if place is None:
            return true()
        row = tuple_(*columns[start:])
        values = zip(place[start:], columns[start:], strict=True)
        last = tuple_(*(literal(value, column.type) for value, column in values))
        return row < last if is_reverse else row > last

    if not is_nullable:
        yield after(0)
    elif place is None or place[0] is not None:
        yield and_(first.is_not(None), after(0))
        yield first.is_(None)
    else:
        yield and_(first.is_(None), after(1))

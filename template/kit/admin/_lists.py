"""The admin's pages: lists and exports of tables of any size, their filters, the home, and times.

A view names filters, beside those in `sqladmin.filters`, in `column_filters`:

    class RoomStateFilter(EnumFilterBase):
        enum = RoomState

    class RoomAdmin(ModelView, model=Room):
        column_filters = [RoomStateFilter(Room.state), DateRangeFilter(Room.created_at)]

A filter of your own derives from `SimpleFilter`, with `choices` and `condition`.
"""

import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

import anyio.to_thread
from fastapi import HTTPException
from markupsafe import Markup
from sqladmin import ModelView, models, pretty_export
from sqladmin.filters import StaticValuesFilter, get_column_obj
from sqladmin.formatters import BASE_FORMATTERS
from sqladmin.helpers import stream_to_csv
from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    ScalarSelect,
    Select,
    Table,
    and_,
    column,
    false,
    func,
    inspect,
    literal,
    table,
    true,
    tuple_,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import selectinload
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import StreamingResponse

from kit.admin._audit import admin_session_maker
from kit.models import AuditAction, AuditEntry


def written_time(moment: date | None, clock: str = "%H:%M") -> Markup:
    """A `<time>` that shows a date, or a time in UTC, and names it exactly; empty without one.

    A time without a zone is shown as it is, and without one.
    """
    if moment is None:
        return Markup("")
    zone = ""
    if isinstance(moment, datetime) and moment.tzinfo:
        moment, zone = moment.astimezone(UTC), " UTC"
    exact = moment.isoformat()
    shown = f"{moment.day} {moment:%b %Y}"
    if isinstance(moment, datetime):
        shown += f", {moment:{clock}}{zone}"
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, shown)


def short_time(row: Any, name: str) -> Markup:
    """A column formatter: the time in UTC, to the minute."""
    return written_time(getattr(row, name))


def exact_time(row: Any, name: str) -> Markup:
    """A column formatter: the time in UTC, to the second."""
    return written_time(getattr(row, name), "%H:%M:%S")


def _with_times(clock: str) -> dict[type, Callable[[Any], Any]]:
    def write(moment: date) -> Markup:
        return written_time(moment, clock)

    return {**BASE_FORMATTERS, date: write, datetime: write}


TYPE_FORMATTERS = _with_times("%H:%M")
"""Of the columns of a list that have no formatter of their own."""
TYPE_FORMATTERS_OF_DETAILS = _with_times("%H:%M:%S")


ALL = "__all"
"""The value with which SQLAdmin's filters stand for no filter."""


class SimpleFilter(StaticValuesFilter):
    """Base of filters with one value: a subclass defines the choices and their condition.

    Args:
        column: the column to filter by, for example `Room.state` or its name.
        title: heading in the page; made of the column's name when left out.
        parameter_name: name in the page's address; the column's when left out.
    """

    def __init__(
        self, column: Any, title: str | None = None, parameter_name: str | None = None
    ) -> None:
        super().__init__(column, self.choices(), title, parameter_name)

    def choices(self) -> list[tuple[str, str]]:
        """Pairs of value and label."""
        return []

    def condition(self, column: Any, value: str) -> ColumnElement[bool]:
        """The condition for rows; `false()` for an invalid value."""
        raise NotImplementedError

    async def get_filtered_query(
        self, query: Select[Any], value: str | None, model: Any
    ) -> Select[Any]:
        """Add this filter's condition to the list's query."""
        if value in (None, "", ALL):
            return query
        return query.where(self.condition(get_column_obj(self.column, model), value))


class EnumFilterBase(SimpleFilter):
    """Filters by the members of an enum, whether the column stores the enum or its values.

    A subclass sets `enum`, and overrides `label` where a member's name is not readable.
    """

    enum: ClassVar[type[Enum]]

    def label(self, member: Enum) -> str:
        """The member's label in the page."""
        return member.name.replace("_", " ").capitalize()

    def choices(self) -> list[tuple[str, str]]:
        """The members, by name: a value may not be text, or not fit into an address."""
        return [(member.name, self.label(member)) for member in self.enum]

    def condition(self, column: Any, value: str) -> ColumnElement[bool]:
        """The condition for rows with this member."""
        member = self.enum.__members__.get(value)
        if member is None:
            return false()
        stored: ColumnElement[bool] = column == (
            member if isinstance(column.type, EnumType) else member.value
        )
        return stored


class IsSetFilter(SimpleFilter):
    """Filters by whether a column has a value, for example `revoked_at`."""

    def choices(self) -> list[tuple[str, str]]:
        """Yes and no."""
        return [("yes", "Yes"), ("no", "No")]

    def condition(self, column: Any, value: str) -> ColumnElement[bool]:
        """The condition for rows with a value, or without one."""
        if value not in ("yes", "no"):
            return false()
        is_set: ColumnElement[bool] = column.is_not(None)
        return is_set if value == "yes" else ~is_set


class DateRangeFilter(SimpleFilter):
    """Filters from one day to another, both included; either end may be left open.

    Of a column with a time zone the days are those of UTC.

    In the address it is `2026-01-01..2026-01-31`, which `kit/static/admin.js` makes of two fields.
    """

    template = "sqladmin/filters/date_range_filter.html"

    def condition(self, column: Any, value: str) -> ColumnElement[bool]:
        """The condition for rows within the days.

        Raises:
            HTTPException: 400 for an invalid date.
        """
        first, _, last = value.partition("..")
        from_first = column >= _start_of(first, column.type) if first else true()
        to_last = column < _start_of(last, column.type, days_later=1) if last else true()
        return and_(from_first, to_last)


def _start_of(day: str, type_: Any, days_later: int = 0) -> date:
    """The day's first value in a column: PostgreSQL would convert another in the server's zone."""
    try:
        parsed = date.fromisoformat(day) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, f"{day!r} is not a date; write it as 2026-01-31."
        ) from None
    if isinstance(getattr(type_, "impl_instance", type_), Date):
        return parsed
    return datetime.combine(parsed, time.min, UTC if type_.timezone else None)


COUNTED_AT_HOME = 1000
"""Rows of a table that are counted; of a larger one PostgreSQL's estimate is shown."""
LONGEST_WAIT = "300ms"
"""What the counts may take, and how long they wait for a table that a migration has locked."""
LAST_ENTRIES = 12

_CATALOGUE = table("pg_class", column("oid"), column("relkind"), column("reltuples"))
_VERBS: dict[str, str] = {
    AuditAction.CREATE: "created",
    AuditAction.UPDATE: "changed",
    AuditAction.DELETE: "deleted",
    AuditAction.PASSWORD: "set the password of",
    AuditAction.LOGIN: "logged in",
    AuditAction.LOGIN_FAILED: "failed to log in",
    AuditAction.LOGOUT: "logged out",
}
_ABOUT_ONESELF = (AuditAction.LOGIN, AuditAction.LOGIN_FAILED, AuditAction.LOGOUT)


class Change(NamedTuple):
    """An entry of the audit trail as a sentence, and the address of its page."""

    url: str
    who: str
    what: str
    when: Markup


async def home_context(views: list[ModelView], request: Request) -> dict[str, Any]:
    """What `sqladmin/index.html` shows of these views: counts by identity, and the last changes.

    It takes three statements on one connection, and `LONGEST_WAIT` at most for the counts.
    """
    mapped: dict[str, Any] = {view.identity: inspect(view.model).local_table for view in views}
    tables = {key: each for key, each in mapped.items() if isinstance(each, Table)}
    audit = next((view for view in views if view.model is AuditEntry), None)
    entries, counts = await anyio.to_thread.run_sync(_read, [*tables.values()], audit is not None)
    names = {view.identity: view.name for view in views}  # by which actions are recorded
    names |= {each.name: names[key] for key, each in tables.items()}
    changes = [
        Change(
            str(audit._build_url_for("admin:details", request, entry)),  # noqa: SLF001
            entry.actor or entry.client,
            _told(entry, names),
            written_time(entry.occurred_at),
        )
        for entry in entries
        if audit
    ]
    return {"counts": dict(zip(tables, counts, strict=True)), "changes": changes}


def _read(tables: list[Table], with_entries: bool) -> tuple[list[AuditEntry], list[str]]:
    newest = select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(LAST_ENTRIES)
    with admin_session_maker() as session:
        entries = [*session.exec(newest)] if with_entries else []
        return entries, _counts(session.connection(), tables) if tables else []


def _counts(connection: Connection, tables: list[Table]) -> list[str]:
    """How many rows each has, as `12` or `≈ 52,300`; empty for a view, which may be slow."""
    estimated = [estimated_rows(each) for each in tables]
    bounds = (
        func.set_config(f"{bound}_timeout", LONGEST_WAIT, "true") for bound in ("lock", "statement")
    )
    estimates = connection.execute(select(*estimated, *bounds)).one()[: len(tables)]
    shown = [approximately(each) if each and each > 0 else "" for each in estimates]
    few = [n for n, each in enumerate(estimates) if each is not None and each <= COUNTED_AT_HOME]
    counted = [
        select(func.count())
        .select_from(
            select(literal(1)).select_from(tables[n]).limit(COUNTED_AT_HOME + 1).subquery()
        )
        .scalar_subquery()
        for n in few
    ]
    with suppress(OperationalError):  # it took too long, or a table is locked
        for n, count in zip(few, connection.execute(select(*counted)).one(), strict=True):
            shown[n] = f"{count:,}" if count <= COUNTED_AT_HOME else f"over {COUNTED_AT_HOME:,}"
    return shown


def estimated_rows(table: Table) -> ScalarSelect[float | None]:
    """PostgreSQL's estimate of a table's rows: null for a view, below 0 before it has one."""
    name = postgresql.dialect().identifier_preparer.format_table(table)  # type: ignore[no-untyped-call]
    relation = _CATALOGUE.c.oid == func.to_regclass(name)
    is_table = _CATALOGUE.c.relkind.in_(["r", "p"])
    return select(_CATALOGUE.c.reltuples).where(relation, is_table).scalar_subquery()


def approximately(rows: float) -> str:
    """An estimate to three digits, as `≈ 52,300`."""
    return f"≈ {float(f'{rows:.3g}'):,.0f}"


def _told(entry: AuditEntry, names: dict[str, str]) -> str:
    verb = _VERBS.get(entry.action) or f"ran {entry.details.get('action', entry.action)} on"
    if entry.action in _ABOUT_ONESELF:
        return verb
    return f"{verb} {names.get(entry.subject_type, entry.subject_type)} {entry.subject_id}".strip()


COUNTED_IN_LISTS = 10_000
"""Rows of a list that are counted, and more where its page links to more; others are estimated."""
LINKED_PAGES = 7
"""Pages after the current one that SQLAdmin may link to."""
BATCH_SIZE = 500
"""Rows of an export that are read at once and in memory together."""


class Uncounted(int):
    """A number of rows that were not counted to their end, and how the page shows it."""

    shown: str

    def __str__(self) -> str:
        return self.shown


class BoundedCounts(ModelView):
    """Counts the rows of a list up to a bound: of a million, a count takes longer than the page."""

    async def count(self, request: Request, stmt: Select[Any] | None = None) -> int:
        """Count the rows of a list up to the bound; beyond it, a whole table is estimated."""
        rows = None if stmt is None else getattr(stmt.get_final_froms()[0], "element", None)
        if not isinstance(rows, Select):
            return await super().count(request, stmt)
        page = self.validate_page_number(request.query_params.get("page"), 1)
        size = self.validate_page_number(request.query_params.get("pageSize"), self.page_size)
        size = min(size, max(self.page_size_options))
        bound = max(COUNTED_IN_LISTS, min((page + LINKED_PAGES) * size, 2**62))
        rows = rows.order_by(None)  # PostgreSQL would sort them
        some = select(literal(1)).select_from(rows.subquery()).limit(bound + 1).subquery()
        count = await super().count(request, select(func.count()).select_from(some))
        if count != bound + 1:
            return count
        table, estimate = self._mapper.local_table, None
        is_whole = rows.whereclause is None and rows.get_final_froms() == [table]
        if is_whole and isinstance(table, Table):
            [estimate] = await self._run_query(select(estimated_rows(table)))
        uncounted = Uncounted(max(count, estimate or 0))
        uncounted.shown = approximately(uncounted) if uncounted > count else f"over {bound:,}"
        return uncounted


class BatchedExports(ModelView):
    """Exports rows batch by batch, each in a session of its own, so that none is held meanwhile.

    For views that leave SQLAdmin's `get_model_objects` and `export_data` as they are.
    """

    async def get_model_objects(self, request: Request, limit: int | None = 0) -> Any:
        """The batches of rows, in the order of the primary key.

        A `list_query` with an order or a limit of its own is read as one batch.
        """
        statement = self.list_query(request)
        if statement._order_by_clauses or statement._has_row_limiting_clause:  # noqa: SLF001
            return _one_batch(await super().get_model_objects(request, limit))
        for relation in self._list_relations:
            statement = statement.options(selectinload(relation))
        return self._batches(statement, limit or sys.maxsize)

    async def _batches(self, statement: Select[Any], limit: int) -> AsyncIterator[list[Any]]:
        mapper = self._mapper
        keys = [mapper.get_property_by_column(each).class_attribute for each in mapper.primary_key]
        following = statement.order_by(*keys)
        while rows := await self._run_query(following.limit(min(BATCH_SIZE, limit))):
            yield rows
            limit -= len(rows)
            last = tuple_(*keys) > mapper.primary_key_from_instance(rows[-1])
            following = statement.where(last).order_by(*keys)

    async def export_data(
        self, data: Any, export_type: str = "csv", request: Request | None = None
    ) -> StreamingResponse:
        """Have SQLAdmin write each batch, and join them."""
        export = super().export_data
        first = await anext(data, None)  # before the response begins: an error then has its page
        response = await export([], export_type, request)
        head, *tail = await _chunks(response)

        async def content() -> AsyncIterator[Any]:
            yield head
            rows, separator = first, head[:0]
            while rows:
                chunks = await _chunks(await export(rows, export_type, request))
                yield head[:0].join([separator, *chunks[1 : -len(tail) or None]])
                rows, separator = await anext(data, None), "," if tail else separator
            for end in tail:
                yield end

        response.body_iterator = content()
        return response


async def _chunks(response: StreamingResponse) -> list[Any]:
    return [chunk async for chunk in response.body_iterator]


async def _one_batch(rows: list[Any]) -> AsyncIterator[list[Any]]:
    yield rows


_FORMULA = re.compile(
    r"(?![+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z)[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
)


class _TextWriter:
    """Writes rows of CSV, of which a spreadsheet takes no cell for a formula: `'` precedes those.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def writerow(self, row: list[Any]) -> Any:
        # A formatter's value may be a piece of a page, or None.
        cells = (
            each.striptags() if isinstance(each, Markup) else "" if each is None else str(each)
            for each in row
        )
        return self._writer.writerow(
            [f"'{cell}" if _FORMULA.match(cell) else cell for cell in cells]
        )


def _stream_to_csv(callback: Callable[[Any], Any]) -> Any:
    return stream_to_csv(lambda writer: callback(_TextWriter(writer)))


for _module in (models, pretty_export):  # both of SQLAdmin's exports
    vars(_module)["stream_to_csv"] = _stream_to_csv

"""Filters for the admin's list pages, beside those in `sqladmin.filters`.

A view names them in `column_filters`:

    class RoomStateFilter(EnumFilterBase):
        enum = RoomState

    class RoomAdmin(ModelView, model=Room):
        column_filters = [RoomStateFilter(Room.state), DateRangeFilter(Room.created_at)]

A filter of your own derives from `SimpleFilter`, with `choices` and `condition`.
"""

from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import HTTPException
from sqladmin.filters import StaticValuesFilter, get_column_obj
from sqlalchemy import ColumnElement, Select, and_, false, true
from sqlalchemy import Enum as EnumType

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
        self,
        column: Any,
        title: str | None = None,
        parameter_name: str | None = None,
    ) -> None:
        super().__init__(column, self.choices(), title, parameter_name)

    def choices(self) -> list[tuple[str, str]]:
        """Pairs of value and label."""
        return []

    def condition(self, column: Any, value: str) -> ColumnElement[bool]:
        """The condition for rows; `false()` for an invalid value."""
        raise NotImplementedError

    async def get_filtered_query(
        self,
        query: Select[Any],
        value: str | None,
        model: Any,
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
    """Filters from one day to another, both included, in UTC; either end may be left open.

    In the address it is `2026-01-01..2026-01-31`, which `kit/static/admin.js` makes of two fields.
    """

    template = "sqladmin/filters/date_range_filter.html"

    def condition(self, column: Any, value: str) -> ColumnElement[bool]:
        """The condition for rows within the days.

        Raises:
            HTTPException: 400 for an invalid date.
        """
        first, _, last = value.partition("..")
        return and_(
            *([column >= _start_of(first)] if first else []),
            *([column < _start_of(last, days_later=1)] if last else []),
            true(),
        )


def _start_of(day: str, days_later: int = 0) -> datetime:
    try:
        parsed = date.fromisoformat(day) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, f"{day!r} is not a date; write it as 2026-01-31."
        ) from None
    return datetime.combine(parsed, time.min, UTC)

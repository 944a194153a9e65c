"""Dates and times as people write them, in the admin's pages: `29 Nov 2026, 07:30 UTC`."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from markupsafe import Markup
from sqladmin.formatters import BASE_FORMATTERS


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

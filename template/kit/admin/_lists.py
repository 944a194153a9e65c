"""The admin's lists and exports, of tables of any size."""

import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from markupsafe import Markup
from sqladmin import ModelView, models, pretty_export
from sqladmin.helpers import stream_to_csv
from sqlalchemy import Select, Table, func, literal, select, tuple_
from sqlalchemy.orm import selectinload
from starlette.requests import Request
from starlette.responses import StreamingResponse

from kit.admin._home import approximately, estimated_rows

COUNTED = 10_000
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
        bound = max(COUNTED, min((page + LINKED_PAGES) * size, 2**62))
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
        # A formatter's value may be a piece of a page.
        cells = (each.striptags() if isinstance(each, Markup) else str(each) for each in row)
        return self._writer.writerow(
            [f"'{cell}" if _FORMULA.match(cell) else cell for cell in cells]
        )


def _stream_to_csv(callback: Callable[[Any], Any]) -> Any:
    return stream_to_csv(lambda writer: callback(_TextWriter(writer)))


for _module in (models, pretty_export):  # both of SQLAdmin's exports
    vars(_module)["stream_to_csv"] = _stream_to_csv

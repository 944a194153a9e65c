"""Rows read without a session: those of busy endpoints, at a third of the cost."""

from contextlib import AbstractContextManager
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection, Executable
from sqlalchemy.util import greenlet_spawn

from kit.database._sessions import refuse_writes
from kit.places import service

Output = TypeVar("Output", bound=BaseModel)


async def read_row(statement: Executable, output: type[Output], /, **values: Any) -> Output | None:
    """Read one row, or None where there is none; see `read_rows`."""
    rows = await read_rows(statement, output, **values)
    return rows[0] if rows else None


async def read_rows(statement: Executable, output: type[Output], /, **values: Any) -> list[Output]:
    """Read rows for a busy endpoint: no session, no model, and autocommit as `ReadSessionDep`.

    Args:
        statement: `select(Invoice)` or columns of it, made once in the module, whose values are
            `bindparam("invoice_id")`. It loads no relationships.
        output: the model of a row, made from columns of the same names.
        values: of the statement's parameters.

    Raises:
        ReadOnlyViolationError: when the statement writes or locks.
        pydantic.ValidationError: when a row does not fit the model.
    """
    refuse_writes(statement)
    rows = await greenlet_spawn(_fetch, statement, values)
    return [output.model_validate(row) for row in rows]


def _fetch(statement: Executable, values: dict[str, Any]) -> list[dict[str, Any]]:
    with connect_for_reading() as connection:
        result = connection.execute(statement, values)
        names = tuple(result.keys())
        return [dict(zip(names, row, strict=True)) for row in result]


def connect_for_reading() -> AbstractContextManager[Connection]:
    """Take a connection of the sessions that only read; a test's is inside its transaction."""
    connection: AbstractContextManager[Connection]
    connection = service.read_session_maker.kw["bind"].sync_engine.connect()
    return connection

"""Rows read or written without a session: for busy endpoints, at a fraction of the cost."""

from collections.abc import Callable
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
    return await _run(connect_for_reading, statement, output, values)


async def write_row(statement: Executable, output: type[Output], /, **values: Any) -> Output | None:
    """Write one row for a busy endpoint: one statement, which is committed when this returns.

    Args:
        statement: `insert(Invoice).returning(Invoice)`, or an `update` or `delete` that returns the
            row. Defaults are those of the table alone, not those of the model.
        output: the model of a row, made from columns of the same names.
        values: of an `insert`, its columns'; else of the statement's parameters.

    Returns:
        The row as it is now; None where none was written.

    Raises:
        sqlalchemy.exc.IntegrityError: when a constraint refuses it, which the API answers with 409.
        pydantic.ValidationError: when the row does not fit the model; it has been written.
    """
    rows = await _run(connect_for_writing, statement, output, values)
    return rows[0] if rows else None


async def _run(
    connect: Callable[[], AbstractContextManager[Connection]],
    statement: Executable,
    output: type[Output],
    values: dict[str, Any],
) -> list[Output]:
    def fetch() -> list[dict[str, Any]]:
        with connect() as connection:
            result = connection.execute(statement, values)
            names = tuple(result.keys())
            return [dict(zip(names, row, strict=True)) for row in result]

    return [output.model_validate(row) for row in await greenlet_spawn(fetch)]


def connect_for_reading() -> AbstractContextManager[Connection]:
    """Take a connection of the sessions that only read; a test's is inside its transaction."""
    connection: Connection = service.read_session_maker.kw["bind"].sync_engine.connect()
    return connection


def connect_for_writing() -> AbstractContextManager[Connection]:
    """Take one of the other sessions, in autocommit; a test's is inside a savepoint."""
    connection: Connection = service.async_session_maker.kw["bind"].sync_engine.connect()
    return connection.execution_options(isolation_level="AUTOCOMMIT")

"""Sessions that refuse to write, for requests that only read."""

from typing import cast

from sqlalchemy import ClauseElement, event
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession


class ReadOnlyViolationError(RuntimeError):
    """A read-only session was asked to write; the endpoint wants `SessionDep` instead."""


class ReadOnlySession(Session):
    """A session that refuses flushes and anything but reads."""


@event.listens_for(ReadOnlySession, "before_flush")
def _refuse_flush(session: ReadOnlySession, *_: object) -> None:
    changed = [*session.new, *session.dirty, *session.deleted]
    raise ReadOnlyViolationError(f"a read-only session cannot write {changed!r}; use SessionDep")


@event.listens_for(ReadOnlySession, "do_orm_execute")
def _refuse_anything_but_reads(state: ORMExecuteState) -> None:
    statement = state.statement
    parts = visitors.iterate(cast("ClauseElement", statement))
    writes = any(getattr(part, "is_dml", False) for part in parts)
    if not state.is_select or writes or getattr(statement, "_for_update_arg", None) is not None:
        raise ReadOnlyViolationError(
            f"a read-only session only selects, and not for update: {statement}; use SessionDep"
        )


class AsyncReadOnlySession(AsyncSession):
    """The async face of `ReadOnlySession`."""

    sync_session_class = ReadOnlySession

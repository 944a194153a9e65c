"""The audit trail: records who changed what, in the transaction of the change.

Every session of the admin is an `AuditedSession`. For each change that it flushes on behalf of an
administrator, it adds an `AuditEntry`: both are committed, or neither is. So the forms, imports,
deletions and actions of every view are covered, without code of their own.
"""

import math
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi.encoders import jsonable_encoder
from sqlalchemy import event, inspect
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import InstanceState, ORMExecuteState, sessionmaker
from sqlmodel import Session, insert

from kit.models import AuditAction, AuditEntry

HIDDEN = "(hidden)"
LONGEST_VALUE = 500
"""Characters of a value that an entry keeps."""

_SENSITIVE_NAME = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|token|hash|api_key|private_key)(_|$)"
)


@dataclass(slots=True)
class AdminRequest:
    """The admin's current request: the client's address, and the administrator once known."""

    client: str
    actor: str = ""
    may_change: bool = False


current_admin_request: ContextVar[AdminRequest | None] = ContextVar(
    "current_admin_request", default=None
)


class ChangeRefusedError(ValueError):
    """The database refused a change; the message can be shown to the administrator."""


class AuditedSession(Session):
    """A session whose changes are recorded, with the administrator who makes them.

    An error of the database is raised without the statement's parameters and without the row, which
    SQLAdmin would show and log: they may hold hashes.
    """

    def flush(self, objects: Any = None) -> None:
        """Flush the changes.

        Raises:
            ChangeRefusedError: when a constraint forbids one.
        """
        try:
            super().flush(objects)
        except IntegrityError as error:
            # PostgreSQL's DETAIL would quote the row.
            reason = getattr(getattr(error.orig, "diag", None), "message_primary", None)
            reason = reason or "a constraint forbids the change"
            raise ChangeRefusedError(f"The database refused the change: {reason}") from None
        except StatementError as error:
            error.hide_parameters = True
            raise


admin_session_maker = sessionmaker(class_=AuditedSession, expire_on_commit=False)
"""Makes every session of the admin. `app/core/admin.py` binds it to `sync_engine`."""


def audit_entry(action: AuditAction, **values: Any) -> AuditEntry | None:
    """Make an entry for the administrator of the current request; None when there is none."""
    request = current_admin_request.get()
    if request is None or not request.actor:
        return None
    return AuditEntry(action=action, actor=request.actor, client=request.client, **values)


def is_sensitive(column_name: str, info: dict[Any, Any]) -> bool:
    """Whether a column's values stay out of the audit: by its mark, or by its name."""
    return bool(info.get("sensitive") or _SENSITIVE_NAME.search(column_name))


@event.listens_for(AuditedSession, "after_flush")
def _record_changes(session: AuditedSession, *_: object) -> None:
    # Keys that the database assigned are known by now, and the previous values still are.
    entries = [
        *_entries(session.new, AuditAction.CREATE),
        *_entries(session.dirty, AuditAction.UPDATE),
        *_entries(session.deleted, AuditAction.DELETE),
    ]
    if entries:
        rows = [entry.model_dump(exclude={"id", "occurred_at"}) for entry in entries]
        session.connection().execute(insert(AuditEntry), rows)


@event.listens_for(AuditedSession, "do_orm_execute")
def _record_bulk_change(state: ORMExecuteState) -> None:
    """Record statements such as `update(Room).where(…)`, which bypass the flush."""
    if state.bind_mapper is None or state.bind_mapper.class_ is AuditEntry:
        return
    if state.is_insert:
        action = AuditAction.CREATE
    elif state.is_update:
        action = AuditAction.UPDATE
    elif state.is_delete:
        action = AuditAction.DELETE
    else:
        return
    table = state.bind_mapper.local_table.name  # type: ignore[attr-defined]
    details = {"statement": str(state.statement)}  # without values, which are bound parameters
    if entry := audit_entry(action, subject_type=table, details=details):
        state.session.add(entry)


def _entries(changed: Any, action: AuditAction) -> Iterator[AuditEntry]:
    for instance in changed:
        if isinstance(instance, AuditEntry):
            continue
        state: InstanceState[Any] = inspect(instance)
        details = _details(state, action)
        if not details and action is AuditAction.UPDATE:
            continue
        entry = audit_entry(
            action,
            subject_type=state.mapper.local_table.name,  # type: ignore[attr-defined]
            subject_id=_key(instance)[:255],
            details=details,
        )
        if entry is not None:
            yield entry


def _details(state: InstanceState[Any], action: AuditAction) -> dict[str, Any]:
    details = {}
    for attribute in state.mapper.column_attrs:
        column = attribute.columns[0]
        change = _change(state, attribute.key, action)
        if change is not None:
            hidden = is_sensitive(attribute.key, dict(column.info))
            details[attribute.key] = {
                when: HIDDEN if hidden and value is not None else _plain(value)
                for when, value in change.items()
            }
    for relationship in state.mapper.relationships:
        if relationship.secondary is None:
            continue
        history = state.attrs[relationship.key].history
        if history.added or history.deleted:
            details[relationship.key] = {
                "added": [_key(other) for other in history.added or ()],
                "removed": [_key(other) for other in history.deleted or ()],
            }
    return details


def _change(state: InstanceState[Any], key: str, action: AuditAction) -> dict[str, Any] | None:
    if action is AuditAction.UPDATE:
        history = state.attrs[key].history
        if not history.has_changes():
            return None
        return {
            "old": next(iter(history.deleted or ()), None),
            "new": next(iter(history.added or ()), None),
        }
    value = state.dict.get(key)
    if value is None:
        return None
    return {"new": value} if action is AuditAction.CREATE else {"old": value}


def _key(instance: object) -> str:
    state: InstanceState[Any] = inspect(instance)
    return ",".join(map(str, state.mapper.primary_key_from_instance(instance)))


def _plain(value: Any) -> Any:
    """Convert a value to JSON, and cut a long one."""
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has neither NaN nor infinity
    plain = jsonable_encoder(value, custom_encoder={bytes: lambda part: f"({len(part)} bytes)"})
    if isinstance(plain, bool | int | float | None):
        return plain
    text = str(plain)
    return plain if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"

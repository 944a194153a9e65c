"""The admin's home: its pages, how many rows their tables have, and what was done last."""

from contextlib import suppress
from typing import Any, NamedTuple

import anyio.to_thread
from markupsafe import Markup
from sqladmin import ModelView
from sqlalchemy import Connection, ScalarSelect, Table, column, func, inspect, literal, table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select
from starlette.requests import Request

from kit.admin._audit import admin_session_maker
from kit.admin._times import written_time
from kit.models import AuditAction, AuditEntry

COUNTED = 1000
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
    few = [n for n, each in enumerate(estimates) if each is not None and each <= COUNTED]
    counted = [
        select(func.count())
        .select_from(select(literal(1)).select_from(tables[n]).limit(COUNTED + 1).subquery())
        .scalar_subquery()
        for n in few
    ]
    with suppress(OperationalError):  # it took too long, or a table is locked
        for n, count in zip(few, connection.execute(select(*counted)).one(), strict=True):
            shown[n] = f"{count:,}" if count <= COUNTED else f"over {COUNTED:,}"
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

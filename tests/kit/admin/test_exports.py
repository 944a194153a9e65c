"""Exports: a spreadsheet takes no cell for a formula, and numbers stay numbers."""

import csv
import io

import httpx
import pytest
from sqladmin import ModelView
from sqlmodel import Session

from app.main import app
from kit.admin import model_views
from kit.models import AuditEntry

FORMULAS = ["=1+1", "+1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]
HARMLESS = ["-5", "+49301234", "-1.5e-7", "a=b", "", "'=1", "1-2", "ada@example.com"]


@pytest.mark.parametrize("pretty", [False, True])
async def test_formulas_are_text(
    admin_client: httpx.AsyncClient,
    sync_db_session: Session,
    monkeypatch: pytest.MonkeyPatch,
    *,
    pretty: bool,
) -> None:
    for text in FORMULAS + HARMLESS:
        sync_db_session.add(AuditEntry(action="create", actor=text, subject_type="probe"))
    sync_db_session.commit()
    [view] = [each for each in model_views(app) if each.model is AuditEntry]
    monkeypatch.setattr(ModelView, "use_pretty_export", pretty)

    answer = await admin_client.get(f"/admin/{view.identity}/export/csv")

    title, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    who = next(index for index, each in enumerate(title) if each in ("actor", "Who"))
    cells = {row[who] for row in rows}
    assert {f"'{text}" for text in FORMULAS} <= cells
    assert set(HARMLESS) <= cells
    assert not cells & set(FORMULAS)

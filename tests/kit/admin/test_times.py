"""Dates in the admin are written as people write them, and exports have them as they are."""

from datetime import UTC, date, datetime, timedelta, timezone

import httpx
import pytest
from sqladmin import ModelView
from sqlmodel import Session

from kit.admin._lists import written_time
from kit.models import AuditEntry

MOMENT = datetime(2026, 3, 1, 23, 30, 12, 123456, timezone(timedelta(hours=-2)))


@pytest.mark.parametrize(
    ("moment", "shown", "exact"),
    [
        (MOMENT, "2 Mar 2026, 01:30 UTC", "2026-03-02T01:30:12.123456+00:00"),
        (MOMENT.replace(tzinfo=None), "1 Mar 2026, 23:30", "2026-03-01T23:30:12.123456"),
        (date(2026, 3, 1), "1 Mar 2026", "2026-03-01"),
    ],
)
def test_is_written_for_people_and_for_programs(moment: date, shown: str, exact: str) -> None:
    assert written_time(moment) == f'<time datetime="{exact}" title="{exact}">{shown}</time>'


def test_nothing_stays_nothing() -> None:
    assert written_time(None) == ""


@pytest.fixture
def entry(sync_db_session: Session) -> AuditEntry:
    entry = AuditEntry(action="create", occurred_at=datetime(2026, 11, 29, 7, 30, 12, 1234, UTC))
    sync_db_session.add(entry)
    sync_db_session.commit()
    return entry


@pytest.mark.parametrize("page", ["list", "details/{}"])
async def test_pages(admin_client: httpx.AsyncClient, entry: AuditEntry, page: str) -> None:
    answer = await admin_client.get(f"/admin/audit-entry/{page.format(entry.id)}")
    assert ">29 Nov 2026, 07:30:12 UTC</time>" in answer.text


async def test_columns_without_a_formatter(
    admin_client: httpx.AsyncClient, sync_db_session: Session
) -> None:
    await admin_client.post("/admin/example-note/create", data={"title": "Dated", "body": "x"})
    answer = await admin_client.get("/admin/example-note/list?search=Dated")
    assert "</time>" in answer.text
    assert "+00:00</td>" not in answer.text


async def test_exports_have_no_markup(
    admin_client: httpx.AsyncClient, entry: AuditEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = f"{entry.occurred_at}"
    for pretty, kind, shown in (
        (False, "csv", exact),
        (False, "json", exact.replace(" ", "T")),
        (True, "csv", "29 Nov 2026, 07:30:12 UTC"),
    ):
        monkeypatch.setattr(ModelView, "use_pretty_export", pretty)
        answer = await admin_client.get(f"/admin/audit-entry/export/{kind}")
        assert shown in answer.text
        assert "<time" not in answer.text

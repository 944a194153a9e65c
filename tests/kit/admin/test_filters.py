import enum
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Enum,
    Integer,
    MetaData,
    Select,
    Table,
    cast,
    column,
    select,
    text,
    values,
)
from sqlmodel import Session, col

from app.core.database import sync_engine
from kit.admin._lists import DateRangeFilter, EnumFilterBase, IsSetFilter
from kit.models import ApiToken, AuditAction, AuditEntry


class Season(enum.Enum):
    EARLY_SPRING = 1
    WINTER = 4


class SeasonFilter(EnumFilterBase):
    enum = Season


class ActionFilter(EnumFilterBase):
    enum = AuditAction


table = Table("crop", MetaData(), Column("season", Enum(Season)), Column("number", Integer))


def sql(query: Select[Any]) -> str:
    compiled = query.compile(dialect=sync_engine.dialect, compile_kwargs={"literal_binds": True})
    return str(compiled).partition("WHERE ")[2]


async def filtered(filter_: Any, value: str | None) -> str:
    return sql(await filter_.get_filtered_query(select(col(AuditEntry.id)), value, AuditEntry))


class TestEnumFilterBase:
    async def test_a_foreign_value_matches_nothing(self) -> None:
        assert await filtered(ActionFilter(AuditEntry.action), "'; --") == "false"

    @pytest.mark.parametrize("value", [None, "", "__all"])
    async def test_all(self, value: str | None) -> None:
        assert await filtered(ActionFilter(AuditEntry.action), value) == ""

    async def test_a_column_of_text_holds_the_member_s_value(self) -> None:
        condition = await filtered(ActionFilter(AuditEntry.action), "LOGIN_FAILED")
        assert condition == "audit_entry.action = 'login-failed'"

    @pytest.mark.parametrize(("column", "stored"), [("season", "'WINTER'"), ("number", "4")])
    async def test_a_column_of_the_enum_holds_the_member(self, column: str, stored: str) -> None:
        season_filter = SeasonFilter(table.c[column])
        query = await season_filter.get_filtered_query(select(table.c.number), "WINTER", None)
        assert sql(query) == f"crop.{column} = {stored}"

    async def test_offers_the_members_to_read(self) -> None:
        unused: Any = None
        lookups = await SeasonFilter(table.c.season).lookups(unused, unused, unused)
        assert lookups == [
            ("__all", "All"),
            ("EARLY_SPRING", "Early spring"),
            ("WINTER", "Winter"),
        ]

    async def test_titles(self) -> None:
        assert ActionFilter(AuditEntry.action).title == "Action"
        assert ActionFilter("action", title="What", parameter_name="what").title == "What"


class TestIsSetFilter:
    @pytest.mark.parametrize(
        ("value", "condition"),
        [
            ("yes", "api_token.revoked_at IS NOT NULL"),
            ("no", "api_token.revoked_at IS NULL"),
            ("other", "false"),
        ],
    )
    async def test_condition(self, value: str, condition: str) -> None:
        assert await filtered(IsSetFilter(ApiToken.revoked_at), value) == condition


class TestDateRangeFilter:
    @pytest.mark.parametrize("value", ["yesterday..", "2026-13-01..", "..2026-1-1", "..9999-12-31"])
    async def test_refuses_what_is_no_date(self, value: str) -> None:
        with pytest.raises(HTTPException) as caught:
            await filtered(DateRangeFilter(AuditEntry.occurred_at), value)
        assert caught.value.status_code == 400
        assert "2026-01-31" in caught.value.detail

    @pytest.mark.parametrize(
        ("value", "condition"),
        [
            ("2026-01-01..", "audit_entry.occurred_at >= '2026-01-01 00:00:00+00:00'"),
            ("..2026-01-31", "audit_entry.occurred_at < '2026-02-01 00:00:00+00:00'"),
            (
                "2026-01-01..2026-01-31",
                (
                    "audit_entry.occurred_at >= '2026-01-01 00:00:00+00:00' "
                    "AND audit_entry.occurred_at < '2026-02-01 00:00:00+00:00'"
                ),
            ),
        ],
    )
    async def test_both_days_count(self, value: str, condition: str) -> None:
        assert await filtered(DateRangeFilter(AuditEntry.occurred_at), value) == condition

    @pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Auckland"])
    @pytest.mark.parametrize("type_", [Date(), DateTime()])
    async def test_without_a_time_zone_the_server_s_does_not_count(
        self, sync_db_session: Session, type_: Any, zone: str
    ) -> None:
        sync_db_session.execute(text(f"SET LOCAL TimeZone = '{zone}'"))
        days = [datetime(2026, 1, day) for day in (30, 31)]  # noqa: DTZ001
        moments = values(column("at", type_), name="moments").data([(each,) for each in days])
        for value in ("2026-01-31..", "2026-01-31..2026-01-31"):
            query = select(cast(moments.c.at, Date))
            query = await DateRangeFilter(moments.c.at).get_filtered_query(query, value, None)
            assert sync_db_session.scalars(query).all() == [date(2026, 1, 31)]


class TestInAListPage:
    @pytest.fixture(autouse=True)
    def _entries(self, admin_client: httpx.AsyncClient, sync_db_session: Session) -> None:
        for number, action in enumerate([AuditAction.CREATE, AuditAction.LOGIN_FAILED]):
            sync_db_session.add(
                AuditEntry(
                    action=action,
                    subject_type=f"row-of-{action.name}",
                    occurred_at=datetime(2020, 1, 1 + number, 12, tzinfo=UTC),
                )
            )
        sync_db_session.commit()

    async def page(self, http: httpx.AsyncClient, **parameters: str) -> str:
        answer = await http.get("/admin/audit-entry/list", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def test_by_enum(self, admin_client: httpx.AsyncClient) -> None:
        page = await self.page(admin_client)
        assert "row-of-CREATE" in page
        assert "row-of-LOGIN_FAILED" in page
        assert "?action=LOGIN_FAILED" in page
        page = await self.page(admin_client, action="LOGIN_FAILED")
        assert "row-of-CREATE" not in page
        assert "row-of-LOGIN_FAILED" in page

    async def test_by_date(self, admin_client: httpx.AsyncClient) -> None:
        page = await self.page(admin_client, occurred_at="2020-01-02..2020-01-02")
        assert "row-of-CREATE" not in page
        assert "row-of-LOGIN_FAILED" in page
        assert 'value="2020-01-02"' in page

    async def test_together(self, admin_client: httpx.AsyncClient) -> None:
        page = await self.page(admin_client, action="CREATE", occurred_at="2020-01-02..")
        assert "row-of-" not in page

    async def test_a_wrong_date_is_told(self, admin_client: httpx.AsyncClient) -> None:
        answer = await admin_client.get("/admin/audit-entry/list?occurred_at=soon..")
        assert answer.status_code == 400
        assert "is not a date" in answer.text

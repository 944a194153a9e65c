"""Lists of large tables: what is counted, what is estimated, and that every row is reached."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqladmin import ModelView
from sqlalchemy import Select, func, select, text, true
from sqlalchemy import event as events
from sqlmodel import Session
from starlette.requests import Request

from kit.admin import _lists as lists
from kit.admin._audit import admin_session_maker
from kit.admin._forms import service_view
from kit.models import AuditEntry

AUDIT = "/admin/audit-entry/list"


def fill(session: Session, rows: int) -> None:
    session.connection().execute(
        text(
            "INSERT INTO audit_entry (action, actor, client, subject_type, subject_id) "
            "SELECT 'create', 'many', '', '', n FROM generate_series(1, :rows) AS n"
        ),
        {"rows": rows},
    )
    session.commit()


async def footer(client: httpx.AsyncClient, **parameters: str | int) -> str:
    answer = await client.get(AUDIT, params={"search": "many", **parameters})
    [shown] = re.findall(r"Showing .*? items", answer.text, re.DOTALL)
    return " ".join(shown.split())


@pytest.fixture
def few_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "COUNTED_IN_LISTS", 30)
    monkeypatch.setattr(lists, "LINKED_PAGES", 2)


async def test_a_short_list_is_counted(
    admin_client: httpx.AsyncClient, sync_db_session: Session, few_counted: None
) -> None:
    fill(sync_db_session, 30)
    assert await footer(admin_client, pageSize=10) == "Showing 1 to 10 of 30 items"


@pytest.mark.usefixtures("few_counted")
class TestBeyondTheBound:
    async def test_a_search_says_that_there_is_more(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        fill(sync_db_session, 301)
        assert await footer(admin_client, pageSize=10) == "Showing 1 to 10 of over 30 items"
        assert await footer(admin_client, pageSize=10**9) == "Showing 1 to 100 of over 300 items"

    async def test_every_page_is_reached(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        fill(sync_db_session, 101)
        found: list[str] = []
        for page in range(1, 12):
            answer = await admin_client.get(
                AUDIT, params={"search": "many", "pageSize": 10, "page": page}
            )
            found += re.findall(r"<td>(\d+)</td>", answer.text)
            assert (f"page={page + 1}" in answer.text) == (page < 11)
        assert found == [str(number) for number in range(101, 0, -1)]
        assert await footer(admin_client, pageSize=10, page=11) == "Showing 101 to 101 of 101 items"

    async def test_a_page_that_is_not_there_leads_to_the_last(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        fill(sync_db_session, 101)
        for page in (12, 10**40):
            answer = await admin_client.get(
                AUDIT, params={"search": "many", "pageSize": 10, "page": page}
            )
            assert answer.headers["location"].endswith("page=11")

    async def test_a_whole_table_is_estimated(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        fill(sync_db_session, 40)
        estimate = "UPDATE pg_class SET reltuples = :rows WHERE relname = 'audit_entry'"
        for rows, shown in ((-1, "over 30"), (12, "over 30"), (52345, "≈ 52,300")):
            sync_db_session.connection().execute(text(estimate), {"rows": rows})
            assert await footer(admin_client, search="", pageSize=10) == (
                f"Showing 1 to 10 of {shown} items"
            )
            assert await footer(admin_client, pageSize=10) == "Showing 1 to 10 of over 30 items"

    async def test_a_view_counts_by_itself(self, sync_db_session: Session) -> None:
        class View(ModelView, model=AuditEntry):
            session_maker = admin_session_maker

            async def count(self, request: Request, stmt: Select[tuple[int]] | None = None) -> int:
                return 7_000

        fill(sync_db_session, 31)
        request = Request({"type": "http", "query_string": b""})
        assert str((await service_view(View)().list(request)).count) == "7000"

    async def test_rows_of_a_join_are_not_estimated(self, sync_db_session: Session) -> None:
        class View(ModelView, model=AuditEntry):
            session_maker = admin_session_maker

            def list_query(self, request: Request) -> Any:
                return select(AuditEntry).join(func.generate_series(1, 1).table_valued("n"), true())

        fill(sync_db_session, 40)
        estimate = "UPDATE pg_class SET reltuples = 52345 WHERE relname = 'audit_entry'"
        sync_db_session.connection().execute(text(estimate))
        request = Request({"type": "http", "query_string": b""})
        view = service_view(View)()
        assert str((await view.list(request)).count) == "over 30"
        assert await view.count(request) == 40


@pytest.fixture
def plans(sync_db_session: Session) -> Iterator[list[str]]:
    """The plan of each statement that reads the table, in JSON, with the rows that it read."""
    found: list[str] = []
    connection = sync_db_session.connection()

    def explain(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        if "FROM audit_entry" in statement and not statement.startswith("EXPLAIN"):
            analyse = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            found.append(json.dumps(connection.exec_driver_sql(analyse, parameters).scalar()))

    events.listen(connection, "before_cursor_execute", explain)
    yield found
    events.remove(connection, "before_cursor_execute", explain)


def most_rows(plan: str) -> float:
    return max(map(float, re.findall(r'"Actual Rows": ([\d.]+)', plan)))


class TestReads:
    async def test_no_more_than_the_bound(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, plans: list[str]
    ) -> None:
        fill(sync_db_session, 20_000)
        await footer(admin_client, search="")
        assert [most_rows(plan) for plan in plans] == [lists.COUNTED_IN_LISTS + 1, 25]

    async def test_no_more_for_the_count_of_what_is_searched_and_sorted(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, plans: list[str]
    ) -> None:
        fill(sync_db_session, 20_000)
        await footer(admin_client, sortBy="actor")
        assert most_rows(plans[0]) == lists.COUNTED_IN_LISTS + 1

    async def test_an_index_of_trigrams_where_there_is_one(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, plans: list[str]
    ) -> None:
        columns = ("actor", "subject_type", "subject_id", "client")
        operators = ", ".join(f"{column} gin_trgm_ops" for column in columns)
        for statement in (
            "CREATE EXTENSION IF NOT EXISTS pg_trgm",
            f"CREATE INDEX ix_audit_entry_search ON audit_entry USING gin ({operators})",
            "SET LOCAL enable_seqscan = off",  # of a table that is empty
            "SET LOCAL enable_indexscan = off",
        ):
            sync_db_session.connection().execute(text(statement))
        await footer(admin_client)
        assert [plan.count("ix_audit_entry_search") for plan in plans] == [len(columns)] * 2

"""The admin's home: counts, last changes, and what both may cost."""

import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Connection, MetaData, Table, create_engine, text
from sqlalchemy import event as events
from sqlalchemy.pool import NullPool
from sqlmodel import Session, SQLModel

from app.core.config import settings
from kit.admin import _lists as lists
from kit.models import ApiToken, AuditEntry
from kit.security import create_api_token


async def links(client: httpx.AsyncClient) -> list[str]:
    """The text of each link to a page or an entry."""
    page = (await client.get("/admin/")).text.partition('class="page-body')[2]
    return [
        " ".join(re.sub(r"<[^>]+>", " ", link).split())
        for link in re.findall(r"<a .*?</a>", page, re.DOTALL)
    ]


async def count(client: httpx.AsyncClient, name: str) -> str:
    [found] = [link for link in await links(client) if link.startswith(name)]
    return found.removeprefix(name).strip()


async def test_needs_a_log_in(anonymous_client: httpx.AsyncClient) -> None:
    assert (await anonymous_client.get("/admin/")).status_code == 302


async def test_counts_rows(admin_client: httpx.AsyncClient, sync_db_session: Session) -> None:
    assert await count(admin_client, "API tokens") == "0"
    for name in ("one", "two"):
        create_api_token(sync_db_session, name)
    sync_db_session.commit()
    assert await count(admin_client, "API tokens") == "2"


async def test_a_large_table_is_estimated(
    admin_client: httpx.AsyncClient, sync_db_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        sync_db_session.add(AuditEntry(action="create", actor=str(number)))
    sync_db_session.commit()
    monkeypatch.setattr(lists, "COUNTED_AT_HOME", 3)
    assert await count(admin_client, "Audit") == "over 3"
    sync_db_session.connection().execute(
        text("UPDATE pg_class SET reltuples = 52345 WHERE relname = 'audit_entry'")
    )
    assert await count(admin_client, "Audit") == "≈ 52,300"


async def test_says_who_did_what(admin_client: httpx.AsyncClient, sync_db_session: Session) -> None:
    sync_db_session.add(AuditEntry(action="login-failed", client="203.0.113.9"))
    sync_db_session.add(
        AuditEntry(action="create", actor="ada", subject_type="api_token", subject_id="7")
    )
    sync_db_session.add(
        AuditEntry(action="action", actor="ada", subject_type="api-token", details={"action": "x"})
    )
    sync_db_session.commit()
    told = [link.partition(" UTC")[0] for link in await links(admin_client) if " UTC" in link]
    assert [re.sub(r" \d+ \w{3} 20\d\d, \d\d:\d\d$", "", each) for each in told[:3]] == [
        "ada ran x on API token",
        "ada created API token 7",
        "203.0.113.9 failed to log in",
    ]
    assert len(told) <= lists.LAST_ENTRIES


class TestItsCost:
    @pytest.fixture
    def connection(self, test_database: str) -> Iterator[Connection]:
        engine = create_engine(
            settings.SYNC_DATABASE_URL, poolclass=NullPool, connect_args=settings.sync_connect_args
        )
        with engine.connect() as connection:
            yield connection
        engine.dispose()

    def test_two_statements_for_all_tables(self, connection: Connection) -> None:
        statements: list[str] = []
        events.listen(connection, "before_cursor_execute", lambda *all: statements.append(all[2]))
        tables = [*SQLModel.metadata.tables.values()]
        assert len(lists._counts(connection, tables)) == len(tables)
        assert len(statements) == 2
        assert statements[1].count("LIMIT") == len(tables)

    def test_a_table_that_is_locked_does_not_hold_the_page(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "LONGEST_WAIT", "20ms")
        migration = connection.engine.connect()
        migration.execute(text("LOCK TABLE api_token IN ACCESS EXCLUSIVE MODE"))
        try:
            assert lists._counts(connection, [ApiToken.__table__]) == [""]  # type: ignore[attr-defined]
        finally:
            migration.close()

    def test_a_view_is_not_counted(self, connection: Connection) -> None:
        connection.execute(text("CREATE TEMPORARY VIEW slow AS SELECT 1 AS one"))
        assert lists._counts(connection, [Table("slow", MetaData())]) == [""]

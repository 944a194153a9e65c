"""Exports: no cell is taken for a formula, and a table of any size is read in batches."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Self
from unittest.mock import AsyncMock

import httpx
import pytest
from sqladmin import ModelView
from sqlalchemy import func, true
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel, col, select
from starlette.requests import Request
from starlette.responses import StreamingResponse

from app.main import app
from kit.admin import _lists as lists
from kit.admin import model_views
from kit.admin._audit import AuditedSession, admin_session_maker
from kit.admin._forms import service_view
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


class Stock(SQLModel, registry=registry()):
    """Keeps the tables out of the service's."""


class Crate(Stock, table=True):
    __tablename__ = "exports_test_crate"

    shelf: str = Field(primary_key=True)
    place: int = Field(primary_key=True)
    content: str = ""


class CrateView(ModelView, model=Crate):
    session_maker = admin_session_maker
    column_export_list: ClassVar = ["shelf", "place", "content"]


SHELVES = [(shelf, place) for shelf in ("a", "b") for place in (1, 2, 3)]


@pytest.fixture
def crates(sync_db_session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "BATCH_SIZE", 2)
    Crate.metadata.create_all(sync_db_session.connection())
    for shelf, place in reversed(SHELVES):
        sync_db_session.add(Crate(shelf=shelf, place=place, content="=1"))
    sync_db_session.commit()


async def export(view: type[ModelView], kind: str = "csv") -> AsyncIterator[str]:
    """The parts of an export, as they are sent."""
    own = service_view(view)()
    request = Request({"type": "http", "query_string": b""})
    rows = await own.get_model_objects(request, own.export_max_rows)
    response = await own.export_data(rows, kind, request)
    async for part in response.body_iterator:
        yield part if isinstance(part, str) else bytes(part).decode()


async def exported(view: type[ModelView]) -> list[tuple[str, int]]:
    """Shelves and places of the rows of an export."""
    title, *rows = csv.reader(io.StringIO("".join([part async for part in export(view)])))
    assert title == ["shelf", "place", "content"]
    assert {content for *_, content in rows} <= {"'=1"}
    return [(shelf, int(place)) for shelf, place, _ in rows]


@pytest.mark.usefixtures("crates")
async def test_a_formatter_s_none_is_an_empty_cell() -> None:
    class View(CrateView, model=Crate):
        use_pretty_export = True
        column_formatters: ClassVar = {"content": lambda *_: None}

    rows = [*csv.reader(io.StringIO("".join([part async for part in export(View)])))]
    assert rows[1] == ["a", "1", ""]


@pytest.mark.usefixtures("crates")
class TestBatches:
    async def test_have_each_row_once(self) -> None:
        assert await exported(CrateView) == SHELVES

    @pytest.mark.parametrize("rows", [0, 1, 2, 5])
    async def test_are_one_list_in_json(self, sync_db_session: Session, rows: int) -> None:
        for crate in sync_db_session.exec(select(Crate)).all()[rows:]:
            sync_db_session.delete(crate)
        sync_db_session.commit()
        found = json.loads("".join([part async for part in export(CrateView, "json")]))
        assert len({(each["shelf"], each["place"]) for each in found}) == len(found) == rows

    async def test_end_at_the_views_most_rows(self) -> None:
        class View(CrateView, model=Crate):
            export_max_rows = 3

        assert await exported(View) == SHELVES[:3]

    async def test_have_rows_that_a_join_repeats_once(self) -> None:
        class View(CrateView, model=Crate):
            def list_query(self, request: Request) -> Any:
                thrice = func.generate_series(1, 3).table_valued("n")
                return select(Crate).join(thrice, true())

        assert await exported(View) == SHELVES

    async def test_keep_an_order_of_the_views_own(self) -> None:
        class View(CrateView, model=Crate):
            def list_query(self, request: Request) -> Any:
                return select(Crate).order_by(col(Crate.place).desc(), col(Crate.shelf))

        assert await exported(View) == sorted(SHELVES, key=lambda each: (-each[1], each[0]))

    async def test_are_not_made_for_an_export_of_the_views_own(self) -> None:
        class View(CrateView, model=Crate):
            async def export_data(self, data: list[Any], *_: Any, **__: Any) -> Any:
                return StreamingResponse(iter([f"{len(data)} rows"]))

        assert [part async for part in export(View)] == ["6 rows"]

    async def test_are_read_one_by_one_and_hold_no_session_while_they_are_sent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened, closed = [], []

        class Watched(AuditedSession):
            def __enter__(self) -> Self:
                opened.append(self)
                return super().__enter__()

            def __exit__(self, *error: Any) -> None:
                super().__exit__(*error)
                closed.append(self)

        monkeypatch.setattr(admin_session_maker, "class_", Watched)
        sessions = []
        async for _ in export(CrateView):
            assert len(opened) == len(closed)
            sessions.append(len(opened))
        assert sessions == [1, 1, 2, 3]

    @pytest.mark.parametrize("kind", ["csv", "json"])
    async def test_are_not_begun_when_the_database_is_away(
        self, admin_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        [view] = [each for each in model_views(app) if each.model is AuditEntry]
        away = AsyncMock(side_effect=OperationalError("", {}, Exception("away")))
        monkeypatch.setattr(view, "_run_query", away)
        answer = await admin_client.get(f"/admin/{view.identity}/export/{kind}")
        assert answer.status_code == 503
        assert "content-disposition" not in answer.headers

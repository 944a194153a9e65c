"""What no page of the admin sends: malformed addresses and forms are 4xx, never a failure."""

from types import SimpleNamespace
from typing import ClassVar

import httpx
import pytest
from fastapi import FastAPI
from sqladmin import ModelView
from sqlalchemy import inspect
from sqlalchemy.orm import registry
from sqlmodel import Field, Relationship, Session, SQLModel

from app.main import app
from kit.admin import ServiceAdmin, admin_session_maker, model_views
from kit.admin._audit import AdminRequest
from kit.models import AuditAction, AuditEntry
from kit.settings import BASE_DIR

ODD = [
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF",
    "9" * 30,
    "9" * 5000,
    "-1",
    "abc",
    "1,2",
    "",
    "1;2",
    "NaN",
    "%0A",
    ",,",
]


@pytest.mark.parametrize("view", model_views(app), ids=lambda view: view.identity)
async def test_addresses(admin_client: httpx.AsyncClient, view: ModelView) -> None:
    base = f"/admin/{view.identity}"
    parameters = ["search", "page", "pageSize", "sortBy", *(f"{name}" for name in filters(view))]
    asked = [
        ("DELETE", f"{base}/delete"),
        ("POST", f"{base}/import"),
        ("GET", f"{base}/ajax/lookup"),
    ]
    for odd in ODD:
        asked += [("GET", f"{base}/{page}/{odd}") for page in ("details", "edit", "export")]
        asked += [("POST", f"{base}/edit/{odd}"), ("DELETE", f"{base}/delete?pks={odd}")]
        asked += [("GET", f"{base}/list?{name}={odd}") for name in parameters]
        actions = view._custom_actions_in_list
        asked += [("GET", f"{base}/action/{name}?pks={odd}") for name in actions]
        asked += [
            ("GET", f"{base}/ajax/lookup?name={name}&term={odd}") for name in view._form_ajax_refs
        ]
    failed = []
    for method, path in asked:
        answer = await admin_client.request(method, path)
        if answer.status_code >= 500:
            failed.append((answer.status_code, method, path))
    assert not failed


def filters(view: ModelView) -> list[str]:
    return [each.parameter_name for each in view.get_filters()]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=B; charset=undefined", b"--B--"),
        ("multipart/form-data", b"x"),
        (
            "multipart/form-data; boundary=B",
            b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--",
        ),
        ("application/x-www-form-urlencoded", b"username=%00&password=%00"),
        ("application/x-www-form-urlencoded", b"username=%ED%A0%80&password=%FF"),
        ("application/x-www-form-urlencoded", b"\xff\xfe=\xff"),
        ("application/json", b"{"),
    ],
)
@pytest.mark.parametrize("path", ["/admin/login", "/admin/admin-user/create"])
async def test_forms(admin_client: httpx.AsyncClient, path: str, kind: str, body: bytes) -> None:
    answer = await admin_client.post(path, content=body, headers={"Content-Type": kind})
    assert 400 <= answer.status_code < 500


async def test_a_nul_in_an_address_is_explained(admin_client: httpx.AsyncClient) -> None:
    answer = await admin_client.get("/admin/api-token/action/revoke?pks=%00")
    assert answer.status_code == 400
    assert "NUL" in answer.text


class Base(SQLModel, registry=registry()):
    """Keeps the tables out of the service's."""


class Shelf(Base, table=True):
    __tablename__ = "malformed_test_shelf"

    id: int | None = Field(default=None, primary_key=True)
    name: str = ""


class Book(Base, table=True):
    __tablename__ = "malformed_test_book"

    id: int | None = Field(default=None, primary_key=True)
    shelf_id: int = Field(foreign_key="malformed_test_shelf.id")
    shelf: Shelf = Relationship()


class BookAdmin(ModelView, model=Book):
    form_ajax_refs: ClassVar = {"shelf": {"fields": ("name",), "order_by": "id"}}


@pytest.mark.parametrize("key", ["abc", "1;2", "9" * 5000, "\0"])
async def test_a_choice_that_is_no_key_is_refused(
    sync_db_session: Session, as_tester: AdminRequest, key: str
) -> None:
    Base.metadata.create_all(sync_db_session.connection())
    service = FastAPI()
    ServiceAdmin(service, session_maker=admin_session_maker).add_view(BookAdmin)
    transport = httpx.ASGITransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post("/admin/book/create", data={"shelf": key})
    assert answer.status_code == 400
    assert "Not a valid choice" in answer.text


class TestAFile:
    """SQLAdmin serves whatever file of the service's folder the text of a row names."""

    @pytest.fixture
    def pages(self, sync_db_session: Session) -> str:
        entry = AuditEntry(action=AuditAction.ACTION, actor="pyproject.toml")
        sync_db_session.add(entry)
        sync_db_session.commit()
        return f"/admin/audit-entry/{entry.id}"

    @pytest.mark.parametrize("page", ["download", "preview"])
    @pytest.mark.parametrize("column", ["actor", "details", "id", "nothing"])
    async def test_is_named_by_no_text(
        self, admin_client: httpx.AsyncClient, pages: str, column: str, page: str
    ) -> None:
        answer = await admin_client.get(f"{pages}/{column}/{page}/")
        assert answer.status_code == 404

    @pytest.fixture
    def a_column_of_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        storage = SimpleNamespace(_path=BASE_DIR)
        column = inspect(AuditEntry).columns["actor"]
        monkeypatch.setattr(column.type, "storage", storage, raising=False)

    @pytest.mark.usefixtures("a_column_of_files")
    async def test_of_a_column_of_files_is_served(
        self, admin_client: httpx.AsyncClient, pages: str
    ) -> None:
        answer = await admin_client.get(f"{pages}/actor/download/")
        assert answer.text.startswith("[project]")

    @pytest.mark.usefixtures("a_column_of_files")
    @pytest.mark.parametrize("key", ["77", "x", "9" * 5000])
    async def test_of_an_unknown_row_is_not_there(
        self, admin_client: httpx.AsyncClient, key: str
    ) -> None:
        answer = await admin_client.get(f"/admin/audit-entry/{key}/actor/download/")
        assert answer.status_code == 404

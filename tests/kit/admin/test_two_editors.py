"""Two who edit a row at once: the later form leaves what it did not change itself."""

from collections.abc import AsyncIterator
from typing import ClassVar

import httpx
import pytest
from fastapi import FastAPI
from sqladmin import ModelView
from sqlalchemy.orm import registry
from sqlmodel import Field, Relationship, Session, SQLModel

from kit.admin import ServiceAdmin, admin_session_maker
from kit.admin._audit import AdminRequest
from kit.tests.admin.browser_form import BrowserForm
from kit.tests.admin.test_column_types import said


class Base(SQLModel, registry=registry()):
    """Keeps the tables out of the service's."""


class Shelf(Base, table=True):
    __tablename__ = "two_editors_shelf"

    id: int | None = Field(default=None, primary_key=True)
    name: str = ""


class Labelled(Base, table=True):
    __tablename__ = "two_editors_labelled"

    label_id: int = Field(foreign_key="two_editors_label.id", primary_key=True)
    book_id: int = Field(foreign_key="two_editors_book.id", primary_key=True)


class Label(Base, table=True):
    __tablename__ = "two_editors_label"

    id: int | None = Field(default=None, primary_key=True)
    name: str = ""


class Book(Base, table=True):
    __tablename__ = "two_editors_book"

    id: int | None = Field(default=None, primary_key=True)
    title: str
    is_lent: bool = False
    shelf_id: int | None = Field(default=None, foreign_key="two_editors_shelf.id")
    shelf: Shelf | None = Relationship()
    labels: list[Label] = Relationship(link_model=Labelled)


class ChoosingAdmin(ModelView, model=Book):
    pass


class SearchingAdmin(ModelView, model=Book):
    form_ajax_refs: ClassVar = {"shelf": {"fields": ("name",)}, "labels": {"fields": ("name",)}}


PATH = "/admin/book/edit/1"


@pytest.fixture(params=[ChoosingAdmin, SearchingAdmin])
async def http(
    request: pytest.FixtureRequest, sync_db_session: Session, as_tester: AdminRequest
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, and one book on the first of two shelves with the first of two labels."""
    Base.metadata.create_all(sync_db_session.connection())
    shelves, labels = [Shelf(name="a"), Shelf(name="b")], [Label(name="x"), Label(name="y")]
    sync_db_session.add_all([*shelves, *labels])
    sync_db_session.add(Book(title="old", shelf=shelves[0], labels=labels[:1]))
    sync_db_session.commit()
    service = FastAPI()
    ServiceAdmin(service, session_maker=admin_session_maker).add_view(request.param)
    transport = httpx.ASGITransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as browser:
        yield browser


def stored(session: Session) -> tuple[str, bool, str, list[str]]:
    session.expire_all()
    book = session.get_one(Book, 1)
    shelf = book.shelf.name if book.shelf else ""
    return book.title, book.is_lent, shelf, sorted(each.name for each in book.labels)


async def test_each_writes_what_they_changed(
    http: httpx.AsyncClient, sync_db_session: Session
) -> None:
    first = BrowserForm((await http.get(PATH)).text)
    second = BrowserForm((await http.get(PATH)).text)
    answer = await http.post(PATH, data=first.sent(shelf="2", labels=["1", "2"], is_lent="y"))
    assert answer.status_code == 302, said(answer)
    answer = await http.post(PATH, data=second.sent(title="new"))
    assert answer.status_code == 302, said(answer)
    assert stored(sync_db_session) == ("new", True, "b", ["x", "y"])


@pytest.mark.parametrize(
    ("theirs", "mine", "written"),
    [
        ({"title": "theirs"}, {"title": "mine"}, ("mine", False, "a", ["x"])),
        ({"shelf": "2"}, {"shelf": []}, ("old", False, "", ["x"])),
        ({"labels": ["1", "2"]}, {"labels": ["2"]}, ("old", False, "a", ["y"])),
    ],
)
async def test_what_both_changed_is_written_when_it_is_saved_again(
    http: httpx.AsyncClient,
    sync_db_session: Session,
    theirs: dict[str, str | list[str]],
    mine: dict[str, str | list[str]],
    written: tuple[str, bool, str, list[str]],
) -> None:
    form = BrowserForm((await http.get(PATH)).text)
    other = await http.post(PATH, data=BrowserForm((await http.get(PATH)).text).sent(**theirs))
    assert other.status_code == 302, said(other)
    before = stored(sync_db_session)

    answer = await http.post(PATH, data=form.sent(**mine))
    assert answer.status_code == 400
    assert ["Somebody has changed this since" in each for each in said(answer)] == [True]
    assert stored(sync_db_session) == before
    again = BrowserForm(answer.text).sent()
    answer = await http.post(PATH, data=again)
    assert answer.status_code == 302, said(answer)
    assert stored(sync_db_session) == written


@pytest.mark.parametrize("marks", ["", "{", "[]", '{"title": []}', '{"title": "\\ud800"}'])
async def test_marks_that_no_page_sends_change_nothing(
    http: httpx.AsyncClient, sync_db_session: Session, marks: str
) -> None:
    form = BrowserForm((await http.get(PATH)).text)
    answer = await http.post(PATH, data=form.sent(_shown=marks))
    assert answer.status_code == 302, said(answer)
    assert stored(sync_db_session) == ("old", False, "a", ["x"])

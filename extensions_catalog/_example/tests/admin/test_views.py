"""The notes in the admin."""

import httpx
import pytest
from sqlmodel import Session, select

from app.extensions._example.models import ExampleNote
from app.extensions._example.tests.factories.note import make_note

LIST = "/admin/example-note/list"


async def test_strangers_see_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get(LIST)
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


@pytest.fixture
def note(sync_db_session: Session) -> ExampleNote:
    note = make_note(title="Shopping")
    sync_db_session.add(note)
    sync_db_session.commit()
    return note


async def test_lists_notes(admin_client: httpx.AsyncClient, note: ExampleNote) -> None:
    answer = await admin_client.get(LIST)
    assert answer.status_code == 200
    assert "Shopping" in answer.text


async def test_searches_titles(admin_client: httpx.AsyncClient, note: ExampleNote) -> None:
    assert "Shopping" in (await admin_client.get(LIST, params={"search": "shop"})).text
    assert "Shopping" not in (await admin_client.get(LIST, params={"search": "travel"})).text


async def test_writes_a_note(admin_client: httpx.AsyncClient, sync_db_session: Session) -> None:
    answer = await admin_client.post(
        "/admin/example-note/create", data={"title": "Travel", "body": "to the sea"}
    )
    assert answer.status_code == 302, answer.text
    assert sync_db_session.exec(select(ExampleNote)).one().title == "Travel"

"""Routes below `/api/example`."""

import httpx
import pytest
from celery.signals import after_task_publish
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions._example.models import ExampleNote
from app.extensions._example.tests.factories.note import make_note
from kit import messages

NOTES = "/api/example/notes"


@pytest.fixture
async def note(db_session: AsyncSession) -> ExampleNote:
    note = make_note()
    db_session.add(note)
    await db_session.commit()
    return note


class TestCreateNote:
    @pytest.mark.parametrize(
        ("values", "pointer"),
        [
            ({}, "/title"),
            ({"title": ""}, "/title"),
            ({"title": "x" * 201}, "/title"),
            ({"title": "x", "body": "x" * 10_001}, "/body"),
        ],
    )
    async def test_refuses_what_does_not_fit(
        self, client: httpx.AsyncClient, values: dict[str, str], pointer: str
    ) -> None:
        answer = await client.post(NOTES, json=values)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_refuses_a_character_that_the_database_cannot_hold(
        self, client: httpx.AsyncClient
    ) -> None:
        answer = await client.post(NOTES, json={"title": "a\x00b"})
        assert answer.status_code == 422

    async def test_keeps_the_note(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        answer = await client.post(NOTES, json={"title": "Shopping", "body": "milk"})
        assert answer.status_code == 201, answer.text
        created = answer.json()
        assert created["title"] == "Shopping"
        assert created["word_count"] is None
        kept = (await db_session.exec(select(ExampleNote))).one()
        assert kept.id == created["id"]

    async def test_id_and_time_are_not_the_callers(self, client: httpx.AsyncClient) -> None:
        sent = {"title": "x", "id": 77, "word_count": 5, "created_at": "2000-01-01T00:00:00Z"}
        created = (await client.post(NOTES, json=sent)).json()
        assert created["id"] != 77
        assert created["word_count"] is None
        assert not created["created_at"].startswith("2000")

    async def test_survives_a_handler_that_fails(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(message: messages.Message) -> None:
            raise ConnectionRefusedError

        monkeypatch.setattr(messages, "_handlers", {})
        messages.handles("example.note-created", after_commit=True)(fail)
        answer = await client.post(NOTES, json={"title": "Shopping"})
        assert answer.status_code == 201


class TestReadNote:
    @pytest.mark.parametrize("note_id", ["0", "-1", "x", "2147483648"])
    async def test_refuses_an_id_that_cannot_be(
        self, client: httpx.AsyncClient, note_id: str
    ) -> None:
        assert (await client.get(f"{NOTES}/{note_id}")).status_code == 422

    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{NOTES}/2147483647")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no note 2147483647."

    async def test_returns_the_note(self, client: httpx.AsyncClient, note: ExampleNote) -> None:
        answer = await client.get(f"{NOTES}/{note.id}")
        assert answer.status_code == 200
        assert answer.json()["body"] == note.body


class TestListNotes:
    @pytest.fixture(autouse=True)
    async def three_notes(self, db_session: AsyncSession) -> None:
        db_session.add_all(make_note(title=title) for title in ("one", "two", "three"))
        await db_session.commit()

    @pytest.mark.parametrize("query", ["after=1", "limit=0", "sort=body", "colour=red"])
    async def test_refuses_what_it_does_not_know(
        self, client: httpx.AsyncClient, query: str
    ) -> None:
        answer = await client.get(f"{NOTES}?{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"

    async def test_comes_in_pages(self, client: httpx.AsyncClient) -> None:
        query = {"sort": "-title", "limit": "2"}
        first = (await client.get(NOTES, params=query)).json()
        assert [note["title"] for note in first["items"]] == ["two", "three"]
        second = (await client.get(NOTES, params=query | {"after": first["next"]})).json()
        assert [note["title"] for note in second["items"]] == ["one"]
        assert second["next"] is None

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"title__contains": "O"}, ["one", "two"]),
            ({"created_at__ge": "2999-01-01T00:00:00Z"}, []),
        ],
    )
    async def test_can_be_narrowed(
        self, client: httpx.AsyncClient, query: dict[str, str], found: list[str]
    ) -> None:
        page = (await client.get(NOTES, params=query)).json()
        assert [note["title"] for note in page["items"]] == found


class TestDeleteNote:
    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        assert (await client.delete(f"{NOTES}/2147483647")).status_code == 404

    async def test_is_gone(self, client: httpx.AsyncClient, note: ExampleNote) -> None:
        assert (await client.delete(f"{NOTES}/{note.id}")).status_code == 204
        assert (await client.get(f"{NOTES}/{note.id}")).status_code == 404


class TestRecountWords:
    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        assert (await client.post(f"{NOTES}/2147483647/word-count")).status_code == 404

    async def test_sends_the_task(self, client: httpx.AsyncClient, note: ExampleNote) -> None:
        sent: list[str] = []

        def remember(headers: dict[str, str], **_: object) -> None:
            sent.append(headers["id"])

        after_task_publish.connect(remember)
        answer = await client.post(f"{NOTES}/{note.id}/word-count")
        assert answer.status_code == 202, answer.text
        assert answer.json()["task_id"] in sent

"""Pages below `/example`."""

import httpx
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions._example.tests.factories.note import make_note


async def test_without_notes_it_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get("/example/notes")
    assert answer.status_code == 200
    assert "There are no notes yet." in answer.text


async def test_shows_notes_escaped(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    db_session.add(make_note(title="<script>alert(1)</script>"))
    await db_session.commit()
    page = (await client.get("/example/notes")).text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page


async def test_is_no_part_of_the_api(client: httpx.AsyncClient) -> None:
    assert "/example/notes" not in (await client.get("/openapi.json")).json()["paths"]

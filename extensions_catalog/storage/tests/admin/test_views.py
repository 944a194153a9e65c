"""Objects in the admin."""

import httpx
import pytest
from sqlmodel import Session

from app.extensions.storage.models import ObjectState
from app.extensions.storage.tests.rows import add_object

OBJECTS = "/admin/storage-object"


async def test_strangers_see_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{OBJECTS}/list")
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


@pytest.mark.parametrize("path", ["create", "edit/1", "delete"])
async def test_objects_are_not_written_here(admin_client: httpx.AsyncClient, path: str) -> None:
    assert (await admin_client.get(f"{OBJECTS}/{path}")).status_code in {403, 405}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, True),
        ({"search": "report"}, True),
        ({"search": "invoice"}, False),
        ({"state": "STORED"}, True),
        ({"state": "MISSING"}, False),
    ],
)
async def test_finds_objects(
    admin_client: httpx.AsyncClient, sync_db_session: Session, query: dict[str, str], found: bool
) -> None:
    add_object(sync_db_session, state=ObjectState.STORED)
    answer = await admin_client.get(f"{OBJECTS}/list", params=query)
    assert answer.status_code == 200
    assert ("report.pdf" in answer.text) is found


async def test_shows_one(admin_client: httpx.AsyncClient, sync_db_session: Session) -> None:
    row = add_object(sync_db_session)
    page = (await admin_client.get(f"{OBJECTS}/details/{row.id}")).text
    assert row.key in page
    assert "4 B" in page

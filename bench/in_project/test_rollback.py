"""The same test 200 times: two requests that commit and are rolled back, or two that need no row.

Run by `testing.py` with pytest in the project; `durations.py` writes what each test took.
"""

import httpx
import pytest

TIMES = range(200)
NOTES = "/api/example/notes"


@pytest.mark.parametrize("number", TIMES)
async def test_rolled_back(client: httpx.AsyncClient, number: int) -> None:
    created = await client.post(NOTES, json={"title": f"Note {number}", "body": "milk and bread"})
    assert created.status_code == 201
    found = await client.get(f"{NOTES}/{created.json()['id']}")
    assert found.json()["title"] == f"Note {number}"


@pytest.mark.parametrize("number", TIMES)
async def test_without_database(number: int) -> None:
    from app.main import app  # noqa: PLC0415 (after the servers were chosen)

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for _ in range(2):
            assert (await http.get("/health/live")).status_code == 200, number

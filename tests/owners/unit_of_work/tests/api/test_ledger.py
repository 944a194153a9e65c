"""The ledger."""

from httpx import AsyncClient


async def test_a_line_is_committed(client: AsyncClient) -> None:
    assert (await client.post("/api/ledger", json={"name": "rent"})).status_code == 201
    [line] = (await client.get("/api/ledger")).json()
    assert line["name"] == "rent"

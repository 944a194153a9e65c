"""Uploads."""

import httpx

MEGABYTE = 1024 * 1024


async def test_fifty_megabytes(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/api/uploads", data={"title": "Film"}, files={"file": ("film.mp4", bytes(50 * MEGABYTE))}
    )

    assert answer.status_code == 201
    assert answer.json() == {"title": "Film", "name": "film.mp4", "size": 50 * MEGABYTE}

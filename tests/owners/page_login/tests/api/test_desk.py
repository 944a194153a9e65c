"""The desk, a page for administrators."""

from httpx import AsyncClient


async def test_others_are_sent_to_the_log_in(client: AsyncClient) -> None:
    answer = await client.get("/desk", headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert "/admin/login?next=%2Fdesk" in answer.headers["location"]


async def test_administrators_see_it(admin_client: AsyncClient) -> None:
    assert (await admin_client.get("/desk")).status_code == 200

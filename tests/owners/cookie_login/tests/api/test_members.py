from unittest.mock import AsyncMock

import pytest
from httpx import AsyncClient

from kit.security import RateLimit

ADA = {"email": "ada@example.com", "password": "a long password"}


async def test_the_cookie_says_who_calls(client: AsyncClient) -> None:
    await client.post("/api/members", data=ADA)
    assert (await client.post("/api/members/session", data=ADA)).status_code == 204
    assert (await client.get("/api/members/me")).json()["email"] == "ada@example.com"


async def test_the_link_lets_in_and_is_no_cookie(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post("/api/members", data=ADA)
    published = AsyncMock()
    monkeypatch.setattr("app.api.members.publish", published)
    await client.post("/api/members/link", data={"email": "ada@example.com"})
    link = published.await_args_list[0].args[2]["link"]

    client.cookies.set("member", link.rpartition("token=")[2])
    assert (await client.get("/api/members/me")).status_code == 403  # the developer's, in local
    client.cookies.clear()
    assert (await client.get(link)).status_code == 200
    assert (await client.get("/api/members/me")).json()["email"] == "ada@example.com"


async def test_guesses_are_limited(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.members.attempts", RateLimit(2, 1))
    wrong = ADA | {"password": "a guess"}
    answers = [await client.post("/api/members/session", data=wrong) for _ in range(3)]
    assert [each.status_code for each in answers] == [401, 401, 429]

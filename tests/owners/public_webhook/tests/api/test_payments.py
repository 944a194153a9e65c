"""Who may call the routes of payments."""

import pytest
from httpx import AsyncClient

from kit.testing import change_settings


async def test_the_provider_needs_no_token(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")

    assert (await client.get("/api/payments")).status_code == 401
    answer = await client.post("/api/payments/webhook", json={"paid": True})
    assert answer.json() == {"received": True}

"""Browsers of other origins: all in local, the listed ones elsewhere; never with cookies."""

from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from app.core.config import settings
from kit.http import _middleware as middleware

LISTED = "https://app.example.com"
OTHER = "https://elsewhere.example"


@pytest.fixture
def client_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], str], httpx.AsyncClient]:
    def make(origins: list[str], environment: str) -> httpx.AsyncClient:
        changes = {"CORS_ORIGINS": origins, "ENVIRONMENT": environment}
        monkeypatch.setattr(middleware, "settings", settings.model_copy(update=changes))
        app = FastAPI(middleware=middleware.middleware_stack())
        app.add_api_route("/", lambda: "", methods=["PUT"])
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")

    return make


@pytest.mark.parametrize(
    ("origins", "environment", "origin", "allowed"),
    [
        ([], "local", OTHER, "*"),
        ([LISTED], "local", OTHER, None),
        ([LISTED], "production", OTHER, None),
        ([LISTED], "production", LISTED, LISTED),
        (["none"], "production", OTHER, None),
        (["none"], "production", "none", None),
    ],
)
async def test_who_may_call(
    client_of: Callable[[list[str], str], httpx.AsyncClient],
    origins: list[str],
    environment: str,
    origin: str,
    allowed: str | None,
) -> None:
    async with client_of(origins, environment) as client:
        answer = await client.put("/", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert "access-control-allow-credentials" not in answer.headers


async def test_preflight_allows_tokens_and_methods(
    client_of: Callable[[list[str], str], httpx.AsyncClient],
) -> None:
    async with client_of([LISTED], "production") as client:
        answer = await client.options(
            "/",
            headers={
                "Origin": LISTED,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "authorization",
            },
        )
    assert answer.status_code == 200
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()


async def test_scripts_may_read_the_request_id(
    client_of: Callable[[list[str], str], httpx.AsyncClient],
) -> None:
    async with client_of([LISTED], "production") as client:
        answer = await client.put("/", headers={"Origin": LISTED})
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]

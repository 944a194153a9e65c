"""Browsers of other origins: this machine's in local, else the listed ones; never with cookies."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.core.config import settings
from kit.errors import setup_errors
from kit.http import _middleware as middleware

LISTED = "https://app.example.com"
OTHER = "https://elsewhere.example"


@pytest.fixture
def client_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], str], httpx.AsyncClient]:
    def make(origins: list[str], environment: str) -> httpx.AsyncClient:
        changes = {"CORS_ORIGINS": origins, "ENVIRONMENT": environment}
        monkeypatch.setattr(middleware, "settings", settings.model_copy(update=changes))
        app = FastAPI(middleware=middleware.middleware_stack())
        setup_errors(app)
        app.add_api_route("/", lambda: "", methods=["PUT"])
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")

    return make


@pytest.mark.parametrize(
    ("origins", "environment", "origin", "allowed"),
    [
        ([], "local", OTHER, None),
        ([], "local", "http://localhost:5173", "http://localhost:5173"),
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


@pytest.mark.parametrize(
    ("header", "value", "is_answered"),
    [
        ("Host", "localhost:8000", True),
        ("Host", "127.0.0.1:8000", True),
        ("Host", "[::1]:8000", True),
        ("Host", "shop.localhost", True),
        ("Host", "testserver", True),
        ("Host", "elsewhere.example:8000", False),
        ("Host", "127.0.0.1.elsewhere.example", False),
        ("Host", "localhost.elsewhere.example", False),
        ("Origin", "http://localhost:5173", True),
        ("Origin", "https://shop.localhost", True),
        ("Origin", LISTED, True),
        ("Origin", OTHER, False),
        ("Origin", "http://localhost.elsewhere.example", False),
        ("Origin", "http://10.0.0.7", False),
        ("Origin", "null", False),
    ],
)
async def test_a_developers_machine_answers_its_own_pages_alone(
    client_of: Callable[[list[str], str], httpx.AsyncClient],
    header: str,
    value: str,
    is_answered: bool,
) -> None:
    async with client_of([LISTED], "local") as client:
        answer = await client.put("/", headers={header: value})
        assert (answer.status_code == 200) is is_answered
        if not is_answered and header == "Origin":
            assert answer.status_code == 403
            assert value in answer.json()["detail"]
            assert answer.json()["detail"].startswith("Add the origin to CORS_ORIGINS")
        elif not is_answered:
            assert answer.status_code == 400
            assert answer.json()["detail"].startswith("ALLOWED_HOSTS")
    async with client_of([LISTED], "production") as client:
        assert (await client.put("/", headers={header: value})).status_code == 200


@pytest.mark.parametrize(
    ("address", "is_answered"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("/run/service.sock", True),
        ("192.168.1.5", False),
        ("fd00::5", False),
    ],
)
async def test_a_developers_machine_answers_no_other_machine(
    client_of: Callable[[list[str], str], httpx.AsyncClient], address: str, is_answered: bool
) -> None:
    """As where uvicorn is started by hand with `--host 0.0.0.0`."""
    async with client_of([], "local") as client:
        transport = client._transport
        assert isinstance(transport, httpx.ASGITransport)
        inner = transport.app

        async def with_address(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, "server": (address, 8000)}, receive, send)

        transport.app = with_address
        answer = await client.put("/", headers={"Host": "localhost"})
    assert answer.status_code == (200 if is_answered else 403)
    assert is_answered or "add local-on-network to ALLOW_UNSAFE" in answer.json()["detail"]


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

"""Routes beside the API, and what an extension may leave out."""

from types import ModuleType

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from app.core.config import settings
from kit.errors import Problem, setup_errors
from kit.extensions import ExtensionError, LoadedHook
from kit.http import _routers, build_api_router, middleware_stack, setup_openapi
from kit.security import PrincipalProvider, _rate_limit
from kit.security import _principals as principals


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = settings.model_copy(update={"ENVIRONMENT": "production"})
    monkeypatch.setattr(principals, "settings", outside)


def module_with(name: str, *routers: str) -> ModuleType:
    """A module with these routers, each with a route and a WebSocket of the router's name."""
    module = ModuleType(name)
    for router_name in routers:
        router = APIRouter()

        @router.post(f"/{router_name}")
        async def _receive() -> None: ...

        @router.websocket(f"/{router_name}/socket")
        async def _talk(socket: WebSocket) -> None:
            await socket.accept()
            if await socket.receive_text() == "wrong":
                raise Problem(422, "Not a number: wrong.")
            await socket.close()

        setattr(module, router_name, router)
    return module


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """An API whose only modules have a public router beside the usual one."""
    own, extension = (
        module_with(name, "router", "public_router") for name in ("app.api.shop", "hotel")
    )
    monkeypatch.setattr(_routers, "import_modules", lambda *_, **__: [own])
    monkeypatch.setattr(_routers, "load_extensions", lambda _: [LoadedHook("hotel", extension)])
    application = FastAPI(middleware=middleware_stack())
    setup_errors(application)
    setup_openapi(application)
    application.include_router(build_api_router("app.api"))
    return TestClient(application)


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("prefix", ["/api", "/api/hotel"])
class TestPublicRouter:
    def test_other_routes_want_a_principal(self, http: TestClient, prefix: str) -> None:
        assert http.post(f"{prefix}/router").status_code == 401

    def test_its_routes_want_none(self, http: TestClient, prefix: str) -> None:
        assert http.post(f"{prefix}/public_router").status_code == 200

    def test_its_routes_are_limited_by_address(
        self, http: TestClient, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_rate_limit, "_rate_limit", _rate_limit.RateLimit(2, 1))
        answers = [http.post(f"{prefix}/public_router").status_code for _ in range(3)]
        assert answers == [200, 200, 429]

    def test_the_api_s_document_says_so(self, http: TestClient, prefix: str) -> None:
        paths = http.get("/openapi.json").json()["paths"]
        assert "security" in paths[f"{prefix}/router"]["post"]
        assert "security" not in paths[f"{prefix}/public_router"]["post"]

    def test_other_websockets_want_a_principal(self, http: TestClient, prefix: str) -> None:
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            http.websocket_connect(f"{prefix}/router/socket"),
        ):
            pass
        assert refused.value.status_code == 401
        assert refused.value.headers["content-type"] == "application/problem+json"
        assert "Bearer" in refused.value.headers["www-authenticate"]

    def test_its_websockets_want_none(self, http: TestClient, prefix: str) -> None:
        with http.websocket_connect(f"{prefix}/public_router/socket") as socket:
            socket.send_text("right")
            assert socket.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}


class TestOpenWebSocket:
    def test_is_closed_by_a_problem_with_its_detail(self, http: TestClient) -> None:
        with http.websocket_connect("/api/router/socket") as socket:
            socket.send_text("wrong")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
        assert (closed.value.code, closed.value.reason) == (1008, "Not a number: wrong.")

    def test_before_it_is_open_an_outage_is_a_503(
        self, http: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(_: object) -> None:
            raise ConnectionRefusedError("the database is away")

        providers: list[PrincipalProvider] = [fail]
        monkeypatch.setattr(principals, "_providers", providers)
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            http.websocket_connect("/api/router/socket"),
        ):
            pass
        assert refused.value.status_code == 503


@pytest.mark.parametrize("path", ["/health/live", "/", "/openapi.json", "/scalar"])
async def test_outside_local_other_routes_want_none(
    client: httpx.AsyncClient, production: None, path: str
) -> None:
    assert (await client.get(path)).status_code == 200


def test_an_extension_without_router_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("app.extensions.hotel.api")
    module.__file__ = "app/extensions/hotel/api.py"
    monkeypatch.setattr(_routers, "load_extensions", lambda _: [LoadedHook("hotel", module)])
    with pytest.raises(ExtensionError, match=r"hotel.*app/extensions/hotel/api\.py.*router"):
        build_api_router("app.api")

"""Which routes there are, and who may use them."""

from types import ModuleType

import httpx
import pytest

from app import api
from app.core.config import settings
from app.core.extensions import ExtensionError, LoadedHook
from app.core.security import principals
from app.main import app


def api_paths() -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return [
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if path.startswith("/api/")
    ]


@pytest.mark.parametrize(("method", "path"), api_paths())
async def test_outside_local_every_route_of_the_api_wants_a_principal(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    outside = settings.model_copy(update={"ENVIRONMENT": "production"})
    monkeypatch.setattr(principals, "settings", outside)
    answer = await client.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/health/live", "/", "/openapi.json", "/scalar"])
async def test_outside_local_other_routes_want_none(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    outside = settings.model_copy(update={"ENVIRONMENT": "production"})
    monkeypatch.setattr(principals, "settings", outside)
    assert (await client.get(path)).status_code == 200


def test_an_extension_without_router_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("app.extensions.hotel.api")
    module.__file__ = "app/extensions/hotel/api.py"
    monkeypatch.setattr(api, "load_extensions", lambda _: [LoadedHook("hotel", module)])
    with pytest.raises(ExtensionError, match=r"hotel.*app/extensions/hotel/api\.py.*router"):
        api._build_api_router()


async def test_what_is_served_nowhere_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"

"""Routes beside the API, and what an extension may leave out."""

from types import ModuleType

import httpx
import pytest

from app.core.config import settings
from kit.extensions import ExtensionError, LoadedHook
from kit.http import _routers, build_api_router
from kit.security import _principals as principals


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
    monkeypatch.setattr(_routers, "load_extensions", lambda _: [LoadedHook("hotel", module)])
    with pytest.raises(ExtensionError, match=r"hotel.*app/extensions/hotel/api\.py.*router"):
        build_api_router("app.api")

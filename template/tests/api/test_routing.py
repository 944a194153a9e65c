"""Who may use which route."""

import httpx
import pytest

from app.main import app
from kit.testing import change_settings

API_ROUTES = [
    (method.upper(), path)
    for path, operations in app.openapi()["paths"].items()
    for method, operation in operations.items()
    # Those of a `public_router` have no security scheme.
    if path.startswith("/api/") and "security" in operation
]


@pytest.mark.parametrize(("method", "path"), API_ROUTES)
async def test_outside_local_every_route_of_the_api_wants_a_principal(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")

    answer = await client.request(method, path)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_what_is_served_nowhere_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/nowhere")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_operation_has_a_name_of_its_own() -> None:
    operations = [
        operation["operationId"]
        for operations in app.openapi()["paths"].values()
        for operation in operations.values()
    ]
    assert len(operations) == len(set(operations))

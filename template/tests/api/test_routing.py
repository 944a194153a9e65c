"""Who may use which route; `make routes` shows it as a table."""

import httpx
import pytest

from app.main import app
from kit.testing import GuardedRoute, change_settings, guarded_routes


@pytest.mark.parametrize("route", guarded_routes(), ids=str)
def test_a_route_serves_whom_it_says_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, route: GuardedRoute
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")

    assert route.serves(monkeypatch) == route.says()


async def test_without_credentials_the_api_answers_with_a_problem(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")

    answer = await client.post("/api/tasks/ping")

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

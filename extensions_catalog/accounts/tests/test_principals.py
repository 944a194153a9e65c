"""Requests with an access token, to the service as it is served."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from app.extensions.accounts import principals
from app.extensions.accounts.tests.conftest import Clock
from app.extensions.accounts.tests.supabase_project import (
    USER_ID,
    SupabaseProject,
    make_key,
    send,
)
from kit.errors import UnhandledErrorMiddleware, setup_errors
from kit.security import (
    ANONYMOUS_USERS,
    PROGRAMS,
    USERS,
    Principal,
    require_principal,
    serves,
)
from kit.testing import change_settings, guarded_routes

pytestmark = pytest.mark.usefixtures("users")


@pytest.fixture(params=["local", "production"], autouse=True)
def _environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, ENVIRONMENT=request.param)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of two endpoints outside the extension: one returns its principal."""
    app = FastAPI()
    app.add_middleware(UnhandledErrorMiddleware)
    setup_errors(app)

    @app.get("/api/caller", dependencies=[serves(PROGRAMS, USERS)])
    async def read_caller(
        principal: Annotated[Principal, Depends(require_principal)],
    ) -> dict[str, object]:
        return {
            "kind": principal.kind,
            "id": principal.id,
            "name": principal.name,
            "role": principal.claims.get("role"),
        }

    @app.get("/api/anonymous", dependencies=[serves(ANONYMOUS_USERS, shared=True)])
    async def read_nothing() -> None: ...

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def call(http: httpx.AsyncClient, token: str) -> httpx.Response:
    return await http.get("/api/caller", headers={"Authorization": f"Bearer {token}"})


async def test_an_anonymous_user_is_served_where_that_is_said_alone(
    http: httpx.AsyncClient, project: SupabaseProject
) -> None:
    user, anonymous = (project.token(is_anonymous=is_anonymous) for is_anonymous in (False, True))
    answers = [
        (await http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code
        for path in ("/api/caller", "/api/anonymous")
        for token in (user, anonymous)
    ]
    assert answers == [200, 403, 403, 200]


@pytest.mark.parametrize("claims", [{}, {"is_anonymous": True}, {"role": "service_role"}])
async def test_a_user_of_the_project_reaches_nothing_that_is_for_programs(
    client: httpx.AsyncClient, project: SupabaseProject, claims: dict[str, Any]
) -> None:
    client.headers["Authorization"] = f"Bearer {project.token(**claims)}"
    for route in guarded_routes():
        if route.policy is None or USERS not in route.policy.kinds:
            path = re.sub("{.*?}", "1", str(route.route.path))
            for method in route.route.methods or ():
                answer = await client.request(method, path)
                assert answer.status_code == 403, str(route)


async def test_a_refused_token_is_answered_with_the_reason(
    http: httpx.AsyncClient, project: SupabaseProject
) -> None:
    answer = await call(http, project.token(exp=1))
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token", '
        'error_description="The access token has expired; refresh the session."'
    )
    assert answer.json()["reason"] == "expired"
    assert answer.json()["detail"] == "The access token has expired; refresh the session."


async def test_a_refused_token_reaches_no_other_provider(
    http: httpx.AsyncClient, project: SupabaseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believes_everything(_: object) -> Principal:
        return Principal(PROGRAMS, "1", "Anybody", scopes=frozenset({"default"}))

    providers = [principals.user_principal, believes_everything]
    monkeypatch.setattr("kit.security._principals._providers", providers)
    answer = await call(http, project.token(make_key("first")))
    assert answer.status_code == 401
    assert answer.json()["reason"] == "signature"
    assert (await call(http, "of.another.kind")).json()["name"] == "Anybody"


@pytest.mark.parametrize("reason", ["unknown-key", "audience", "algorithm", "malformed", "client"])
async def test_every_reason_fits_into_a_header(
    http: httpx.AsyncClient, project: SupabaseProject, reason: str
) -> None:
    token = {
        "unknown-key": project.token(make_key("absent")),
        "audience": project.token(aud="anon"),
        "algorithm": project.token(make_key("first", "RS256")),
        "malformed": project.token(sub="nobody"),
        "client": project.token(client_id="unlisted"),
    }[reason]
    answer = await call(http, token)
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token", error_')


@pytest.mark.parametrize("issuer", ["https://other.supabase.co/auth/v1", "supabase"])
async def test_a_token_of_another_issuer_is_unknown(
    http: httpx.AsyncClient, project: SupabaseProject, issuer: str
) -> None:
    answer = await call(http, project.token(iss=issuer))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert "reason" not in answer.json()
    assert project.fetches == []


async def test_without_a_project_no_token_is_known(
    http: httpx.AsyncClient, project: SupabaseProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(principals, "verifier", None)
    answer = await call(http, project.token())
    assert answer.status_code == 401
    assert "reason" not in answer.json()


async def test_keys_that_cannot_be_had_are_not_the_callers_fault(
    http: httpx.AsyncClient, project: SupabaseProject, clock: Clock
) -> None:
    project.answer = send(b"", 500)
    answer = await call(http, project.token())
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    assert "WWW-Authenticate" not in answer.headers
    project.answer = None
    clock.now += 5
    assert (await call(http, project.token())).status_code == 200


async def test_api_tokens_stay_what_they_are(
    http: httpx.AsyncClient, project: SupabaseProject, api_token: str
) -> None:
    assert (await call(http, api_token)).json()["kind"] == "api-token"
    assert project.fetches == []


async def test_a_user_is_let_in(http: httpx.AsyncClient, project: SupabaseProject) -> None:
    answer = await call(http, project.token())
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "kind": "user",
        "id": str(USER_ID),
        "name": "ada@example.com",
        "role": "authenticated",
    }


async def test_a_user_stays_in_while_keys_rotate(
    http: httpx.AsyncClient, project: SupabaseProject, clock: Clock
) -> None:
    old = project.token()
    assert (await call(http, old)).status_code == 200
    project.keys.append(make_key("second", "RS256"))
    clock.now += 30
    new = project.token()
    assert [(await call(http, token)).status_code for token in (new, old)] == [200, 200]
    del project.keys[0]
    clock.now += 600
    assert [(await call(http, token)).status_code for token in (new, old)] == [200, 401]
